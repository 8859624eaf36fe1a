from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.speculative.drafter import (
    MAX_DRAFT_TOKENS,
    Drafter,
    NgramLookup,
    draft_size,
)

tokens = st.lists(st.integers(0, 2), max_size=40)


def taught(text: Sequence[int], later: Sequence[int] = ()) -> NgramLookup:
    lookup = NgramLookup()
    lookup.extend(text)
    lookup.add_prediction(later)
    return lookup


def test_what_followed_before_is_guessed() -> None:
    """The last three tokens are found, and what came behind them, as far as it is asked for."""
    lookup = taught([1, 2, 3, 4, 5, 6, 9, 1, 2, 3])
    assert lookup.guess(3) == [4, 5, 6]
    assert lookup.guess(1) == [4]


def test_two_tokens_are_enough_and_the_latest_place_counts() -> None:
    """Where three have no match two are looked up; the last place is the one taken."""
    assert taught([1, 2, 5, 1, 2, 6, 8, 1, 2]).guess(1) == [6]


def test_a_place_is_followed_while_it_is_right() -> None:
    """A place that was right goes on to be, though its tokens have occurred later since."""
    lookup = taught([1, 2, 3, 4, 7, 7, 7, 3, 4, 9, 1, 2])
    assert lookup.guess(2) == [3, 4]
    lookup.extend([3, 4])
    assert lookup.guess(1) == [7]
    lookup.extend([9])
    assert lookup.guess(1) == [1]


def test_a_prediction_is_expected_at_once() -> None:
    """A prediction is the first guess, and is found again behind what it did not foresee."""
    lookup = taught([1, 2, 3], [10, 11, 12, 13, 14])
    assert lookup.guess(2) == [10, 11]
    lookup.extend([10, 50, 11, 12])
    assert lookup.guess(5) == [13, 14]


def test_nothing_is_expected_behind_a_prediction() -> None:
    """The answer that came as foretold is not begun again."""
    lookup = taught([1, 2, 3], [10, 11, 12])
    assert lookup.guess(5) == [10, 11, 12]
    lookup.extend([10, 11])
    assert lookup.guess(5) == [12]
    lookup.extend([12])
    assert lookup.guess(5) == []


def test_nothing_known_gives_no_guess() -> None:
    """Where the last tokens are new, and without any, there is no draft."""
    assert taught([]).guess(4) == []
    assert taught([1, 2, 3, 4]).guess(4) == []


@given(tokens, tokens, st.lists(tokens, max_size=4), st.integers(1, 20))
def test_guesses_are_what_followed_somewhere(
    prompt: list[int], later: list[int], outputs: list[list[int]], count: int
) -> None:
    """However tokens come in, a guess is what followed somewhere, or goes on repeating it."""
    lookup = taught(prompt, later)
    text = prompt + later
    for output in outputs:
        guess = lookup.guess(count)
        assert len(guess) in (0, count) or (later and len(guess) < count)
        longer = text + guess
        starts = range(len(text) if guess else 1)
        assert any(longer[start : start + len(guess)] == guess for start in starts)
        lookup.extend(output)
        text += output


def test_drafts_lengthen_while_they_are_right_and_end_while_wrong() -> None:
    """A record of acceptance makes drafts longer, up to a limit; one of refusal stops them."""
    drafter = Drafter([1, 2] * 40, ())
    first = len(drafter.draft([1, 2], None, 100))
    for _ in range(20):
        drafter.record_acceptance(accepted=5, drafted=5)
    assert first < len(drafter.draft([1, 2], None, 100)) == MAX_DRAFT_TOKENS
    for _ in range(60):
        drafter.record_acceptance(accepted=0, drafted=5)
    assert drafter.draft([1, 2], None, 100) == []


def test_drafts_are_as_long_as_pays() -> None:
    """Sure drafts are as long as they may be, unlikely ones are not made, others lie between."""
    assert draft_size(1.0, 15) == 15
    assert draft_size(0.1, 15) == 0
    assert 0 < draft_size(0.6, 15) < draft_size(0.9, 15) < 15
    assert draft_size(1.0, 0) == draft_size(1.0, -1) == 0
    assert draft_size(0.6, 15, token_cost=0.01) > draft_size(0.6, 15)


def test_refused_drafts_are_tried_again() -> None:
    """Where drafts have stopped they come back after a while."""
    drafter = Drafter([1, 2] * 40, ())
    for _ in range(60):
        drafter.record_acceptance(accepted=0, drafted=5)
    assert any(drafter.draft([1, 2], None, 9) for _ in range(200))


@pytest.mark.parametrize("room", [0, 1, 3])
def test_drafts_keep_to_their_room(room: int) -> None:
    """No draft goes past what the request may still have."""
    drafter = Drafter([1, 2, 3, 4, 5, 6, 7, 8, 9, 1], (2, 3, 4, 5, 6, 7))
    assert len(drafter.draft([], None, room)) == room
