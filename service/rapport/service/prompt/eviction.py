"""Leaving out the beginning of a conversation, so that the prompt stays within a length."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from rapport.service.prompt.turns import Turn

Count = Callable[[Sequence[Turn]], int]


def evict(turns: Sequence[Turn], most: int, count: Count) -> list[Turn]:
    """The turns without the fewest earliest ones that make `count` of the rest at most `most`.

    System turns, the last user turn and what follows it stay; an assistant's calls go
    together with their results. Where that is not enough, all that may go is gone.
    """
    groups = evictable(turns)

    def without(groups_gone: int) -> list[Turn]:
        gone = {place for group in groups[:groups_gone] for place in group}
        return [turn for place, turn in enumerate(turns) if place not in gone]

    # The fewer turns, the fewer tokens: the first number of groups that is enough is sought.
    enough = bisect_left(range(len(groups)), x=True, key=lambda n: count(without(n)) <= most)
    return without(enough)


def evictable(turns: Sequence[Turn]) -> list[list[int]]:
    """Places of turns that may go, in the groups in which they go, the earliest first."""
    last_user = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=0)
    groups: list[list[int]] = []
    for place, turn in enumerate(turns[:last_user]):
        if turn.role == "tool" and groups:
            groups[-1].append(place)
        elif turn.role != "system":
            groups.append([place])
    return groups
