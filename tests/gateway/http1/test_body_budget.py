"""The bound on bodies that are held at once."""

from __future__ import annotations

import pytest

from rapport.gateway.errors import ApiError
from rapport.gateway.http1 import body_budget
from rapport.gateway.http1.body_budget import FREE_BYTES, BodyBudget

LIMIT = 100 << 10


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(body_budget.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_small_bodies_are_never_refused(clock: Clock) -> None:
    """Small bodies do not count, however many there are, and however full it is."""
    del clock
    budget, refused = BodyBudget(LIMIT), list[ApiError]()
    with budget.hold(refused.append) as large:
        large.add(LIMIT + FREE_BYTES)
        for _ in range(1000):
            with budget.hold(refused.append) as small:
                small.add(FREE_BYTES)
    assert not refused


def test_the_slowest_gives_way(clock: Clock) -> None:
    """When there is no room, the body that has come slowest is refused, not the newest."""
    budget, refused = BodyBudget(LIMIT), list[ApiError]()
    with budget.hold(refused.append) as slow:
        slow.add(LIMIT)
        clock.now = 10
        with budget.hold(lambda _: pytest.fail("the fast one was refused")) as fast:
            clock.now = 11
            fast.add(LIMIT)
    assert [error.status for error in refused] == [503]
    assert refused[0].headers["retry-after"] == "1"


def test_the_slowest_may_be_the_newest(clock: Clock) -> None:
    """It hears so itself."""
    budget = BodyBudget(LIMIT)
    with budget.hold(lambda _: pytest.fail("the fast one was refused")) as fast:
        clock.now = 1
        fast.add(LIMIT)
        with budget.hold(lambda _: None) as slow:
            clock.now = 100
            fast.is_complete = True
            with pytest.raises(ApiError):
                slow.add(LIMIT)


def test_what_gave_way_counts_no_more(clock: Clock) -> None:
    """Not even if it has a piece that was read before: its room is given back once."""
    budget = BodyBudget(LIMIT)
    with budget.hold(lambda _: None) as slow:
        slow.add(LIMIT)
        clock.now = 1
        with budget.hold(lambda _: None) as fast:
            fast.add(LIMIT)
            with pytest.raises(ApiError):
                slow.add(1)
    with budget.hold(lambda _: None) as large, pytest.raises(ApiError):
        large.add(LIMIT + FREE_BYTES + 1)


def test_room_is_given_back(clock: Clock) -> None:
    """Bodies that have been read leave no trace."""
    del clock
    budget = BodyBudget(LIMIT)
    for _ in range(100):
        with budget.hold(lambda _: pytest.fail("there is room")) as body:
            body.add(LIMIT)
            body.is_complete = True


def test_what_a_body_becomes_counts(clock: Clock) -> None:
    """A body that is complete, and grows when it is decompressed, may have to give way then."""
    budget = BodyBudget(2 * FREE_BYTES)
    with budget.hold(lambda _: None) as body:
        body.add(FREE_BYTES)
        body.is_complete = True
        clock.now += 1
        body.expand(2 * FREE_BYTES)
        assert body.is_complete
        with pytest.raises(ApiError):
            body.expand(1)
