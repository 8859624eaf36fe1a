from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rapport.common.fair_threads import Steps, finish
from rapport.service.prompt import eviction
from rapport.service.prompt.turns import Turn

roles = st.sampled_from(["system", "user", "assistant", "tool"])
conversations = st.lists(
    st.builds(Turn, role=roles, content=st.text("x", max_size=9)), min_size=1, max_size=12
)


def length(turns: Sequence[Turn]) -> int:
    return sum(len(turn.content) + 1 for turn in turns)


def evict(turns: Sequence[Turn], max_tokens: int) -> list[Turn]:
    """The turns that are kept, where each character and each turn is a token."""

    def count(kept: Sequence[Turn], _most: int) -> Steps[int]:
        yield
        return length(kept)

    return finish(eviction.evict(turns, max_tokens, count))


def turns(*spoken: str) -> list[Turn]:
    return [Turn(*each.split(":")) for each in spoken]


def test_the_earliest_go_first() -> None:
    """As many of the earliest turns go as it takes, and no more."""
    whole = turns("user:aaaa", "assistant:bbbb", "user:cccc", "assistant:dddd", "user:eeee")
    assert evict(whole, 25) == whole
    assert evict(whole, 24) == whole[1:]
    assert evict(whole, 15) == whole[2:]


def test_system_and_last_user_turn_stay() -> None:
    """Instructions and the question stay, though they alone may be too long."""
    whole = turns("system:ssss", "user:aaaa", "assistant:bbbb", "user:eeee")
    assert evict(whole, 1) == turns("system:ssss", "user:eeee")


def test_a_call_goes_with_its_results() -> None:
    """No result stays behind without the call that it belongs to."""
    whole = turns("user:a", "assistant:call", "tool:1", "tool:2", "assistant:b", "user:c")
    assert evict(whole, length(whole) - 3) == whole[4:]


def test_the_turn_under_way_stays() -> None:
    """Calls and results after the last user turn are part of the question."""
    whole = turns("user:aaaa", "assistant:b", "user:c", "assistant:call", "tool:1")
    assert evict(whole, 1) == whole[2:]


@given(conversations, st.integers(0, 80))
def test_what_stays_is_in_order_and_fits_if_it_can(whole: list[Turn], most: int) -> None:
    """The rest is a part of the conversation in its order; it fits unless nothing more may go."""
    kept = evict(whole, most)
    rest = iter(whole)
    assert all(any(turn is each for each in rest) for turn in kept)
    assert length(kept) <= most or kept == evict(whole, -1)
    assert [t for t in kept if t.role == "system"] == [t for t in whole if t.role == "system"]
