"""Tools told in plain turns, for templates that have no word for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from rapport.service.prompt.turns import Turn
from rapport.service.tools import hermes_format


def with_instructions(turns: Sequence[Turn], text: str, default: Callable[[], str]) -> list[Turn]:
    """The turns with a text at the end of the system prompt.

    Without a system turn at the start, `default` gives what the template would say there.
    """
    there = turns[0].role == "system"
    said, rest = (turns[0].content, turns[1:]) if there else (default(), turns)
    return [Turn("system", "\n\n".join(filter(None, (said, text)))), *rest]


def with_results(turns: Iterable[Turn]) -> Iterator[Turn]:
    """The turns with what tools answered as turns of the user, one for all in a row."""
    for role, group in groupby(turns, key=lambda turn: turn.role):
        if role == "tool":
            yield Turn("user", "\n".join(hermes_format.result(turn.content) for turn in group))
        else:
            yield from group
