"""Shows tools and their results as plain turns, for templates that do not render tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from rapport.service.prompt.turns import Turn
from rapport.service.tools import hermes_format


def with_instructions(turns: Sequence[Turn], text: str, default: Callable[[], str]) -> list[Turn]:
    """The turns with a text appended to the system prompt.

    If the first turn is not a system turn, `default` returns the system prompt that the
    template would write.
    """
    given = turns[0].role == "system"
    prompt, rest = (turns[0].content, turns[1:]) if given else (default(), turns)
    return [Turn("system", "\n\n".join(filter(None, (prompt, text)))), *rest]


def with_results(turns: Iterable[Turn]) -> Iterator[Turn]:
    """The turns with results of tools as user turns. Results in a row become one turn."""
    for role, group in groupby(turns, key=lambda turn: turn.role):
        if role == "tool":
            yield Turn("user", "\n".join(hermes_format.result(turn.content) for turn in group))
        else:
            yield from group
