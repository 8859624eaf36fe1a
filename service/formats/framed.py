"""JSON of given schemas between fixed texts: what calls of tools look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.formats.gbnf import quoted
from service.formats.schema import dumped


@dataclass(frozen=True, slots=True)
class Frame:
    """A text, then JSON of a schema as `enforceable` made it, then another text.

    The JSON neither begins nor ends with blanks.
    """

    before: str
    schema: dict[str, Any]
    after: str


def framed_grammar(
    frames: Sequence[Frame],
    field: str,
    *,
    between: str = "\n",
    most: int | None = 1,
    free_text: bool = False,
) -> str:
    r"""The source of the grammar of one frame, or of several one after the other.

    A forced call of one of two functions, and only one:

        tools = [("f", f_schema), ("g", g_schema)]
        framed_grammar(
            [
                Frame(
                    f'<tool_call>\n{{"name": "{name}", "arguments": ',
                    enforceable(schema, f"tools[{i}].function.parameters"),
                    "}\n</tool_call>",
                )
                for i, (name, schema) in enumerate(tools)
            ],
            "tools",
        )

    Args:
        frames: The alternatives. No `before` may be the beginning of another one.
        field: What errors are about.
        between: The text between two frames.
        most: How many frames there may be; None sets no limit. There is at least one.
        free_text: Lets any text come first. It ends where what all `before`s have in
            common comes up, which they need for this: one of the frames then follows.

    Raises:
        InvalidRequest: a string in a schema is no Unicode.
    """
    lead = common_start([frame.before for frame in frames]) if free_text else ""
    rules = [rule(number, frame, lead, field) for number, frame in enumerate(frames)]
    frame = " | ".join(f"f{number}" for number in range(len(frames)))
    more = "" if most is None else str(most - 1)
    again = f"({quoted(between)} {quoted(lead)} frame){{0,{more}}}" if most != 1 else ""
    first = "opening frame" if free_text else "frame"
    opening = [f"opening[lazy]: /(?s:.*)/ {quoted(lead)}"] if free_text else []
    return "\n".join([f"start: {first} {again}", *opening, f"frame: {frame}", *rules])


def common_start(texts: Sequence[str]) -> str:
    # What the first and the last in order share, all between them share too.
    first, last = min(texts), max(texts)
    same = (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(same, len(first))]


def rule(number: int, frame: Frame, lead: str, field: str) -> str:
    before = frame.before.removeprefix(lead)
    json = dumped(frame.schema, field)
    return f"f{number}: {quoted(before)} %json {json} {quoted(frame.after)}"
