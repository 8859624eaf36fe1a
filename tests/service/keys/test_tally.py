from __future__ import annotations

from rapport.service.keys.limits import Limits
from rapport.service.keys.tally import GENERATED, PROMPT, REQUESTS, Tally, of_key, of_user


def tally(**limits: int) -> Tally:
    made = Tally()
    made.allow(of_key(Limits(**limits)))
    return made


def told(counted: Tally, now: float = 0) -> list[str]:
    return [excess.limit for excess in counted.excesses(now)]


def test_nothing_limited_is_never_exceeded() -> None:
    """Without limits any number may run, and nothing is kept of them."""
    free = tally()
    for _ in range(1000):
        free.enter(0)
        free.take(PROMPT, 10**9, 0)
    assert told(free) == []
    for _ in range(1000):
        free.leave()
    assert free.is_idle(0)


def test_each_limit_is_told_when_it_is_reached() -> None:
    """All that stands in the way is named, in words."""
    full = tally(requests_per_minute=1, concurrent=1, generated_tokens_per_minute=5)
    assert told(full) == []
    full.enter(0)
    full.take(GENERATED, 5, 0)
    expected = ["1 requests at once", "1 requests per minute", "5 generated tokens per minute"]
    assert told(full) == expected


def test_only_who_runs_counts_at_once() -> None:
    """A place is free again when a request leaves."""
    narrow = tally(concurrent=2)
    narrow.enter(0)
    narrow.enter(0)
    assert told(narrow) == ["2 requests at once"]
    narrow.leave()
    assert told(narrow) == []


def test_users_have_limits_of_their_own() -> None:
    """Of a key's limits only those for users hold for a user."""
    user = Tally()
    user.allow(of_user(Limits(requests_per_minute=1, concurrent=1, user_requests_per_minute=2)))
    user.enter(0)
    assert told(user) == []
    user.enter(0)
    assert told(user) == ["2 requests per minute"]


def test_changed_limits_hold_at_once() -> None:
    """A limit that is raised, added or taken away while requests come holds for the next."""
    changed = tally(requests_per_minute=1)
    changed.enter(0)
    changed.allow(of_key(Limits(requests_per_minute=1, prompt_tokens_per_minute=9)))
    assert told(changed) == ["1 requests per minute"]
    assert changed.left(0)[PROMPT] == (9, 9)
    changed.allow(of_key(Limits(prompt_tokens_per_minute=9)))
    assert told(changed) == []
    assert REQUESTS not in changed.left(0)


def test_idle_is_who_could_be_new() -> None:
    """Who runs, or still owes something, is not idle."""
    one = tally(requests_per_minute=60)
    one.enter(10)
    assert not one.is_idle(100)
    one.leave()
    assert not one.is_idle(10.5)
    assert one.is_idle(11)
