"""Drops the earliest turns of a conversation so that the prompt fits a length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rapport.common.fair_threads import Steps
from rapport.service.prompt.turns import Turn

CountTokens = Callable[[Sequence[Turn], int], Steps[int]]
"""Counts the tokens of turns, of which there may be more than it says if it exceeds a number."""


def evict(turns: Sequence[Turn], max_tokens: int, count: CountTokens) -> Steps[list[Turn]]:
    """The turns without as many of the earliest ones as needed for `max_tokens` at most.

    System turns, the last user turn and the turns after it are always kept. An assistant's
    calls go together with their results. If the rest is still too long, all turns that may go
    are dropped.
    """
    groups = _evictable_groups(turns)

    def without(dropped_groups: int) -> list[Turn]:
        dropped = {index for group in groups[:dropped_groups] for index in group}
        return [turn for index, turn in enumerate(turns) if index not in dropped]

    # Fewer turns have fewer tokens, so the smallest sufficient number is found by bisection.
    low, high = 0, len(groups)
    while low < high:
        middle = (low + high) // 2
        if (yield from count(without(middle), max_tokens)) <= max_tokens:
            high = middle
        else:
            low = middle + 1
    return without(low)


def _evictable_groups(turns: Sequence[Turn]) -> list[list[int]]:
    """The indexes of turns that may go, in groups that go together, the earliest group first."""
    last_user = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=0)
    groups: list[list[int]] = []
    for index, turn in enumerate(turns[:last_user]):
        if turn.role == "tool" and groups:
            groups[-1].append(index)
        elif turn.role != "system":
            groups.append([index])
    return groups
