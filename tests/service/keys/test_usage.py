from __future__ import annotations

from rapport.service.keys.limits import KeyLimits
from rapport.service.keys.usage import (
    GENERATED,
    PROMPT,
    REQUESTS,
    UsageCounter,
    limits_of_key,
    limits_of_user,
)


def counter(**limits: int) -> UsageCounter:
    made = UsageCounter()
    made.set_limits(limits_of_key(KeyLimits(**limits)))
    return made


def exceeded(counted: UsageCounter, now: float = 0) -> list[str]:
    return [excess.limit for excess in counted.exceeded(now)]


def test_nothing_limited_is_never_exceeded() -> None:
    """Without limits any number may run, and nothing is kept of them."""
    free = counter()
    for _ in range(1000):
        free.start_request(0)
        free.take(PROMPT, 10**9, 0)
    assert exceeded(free) == []
    for _ in range(1000):
        free.end_request()
    assert free.is_idle(0)


def test_each_limit_is_told_when_it_is_reached() -> None:
    """All that stands in the way is named, in words."""
    full = counter(requests_per_minute=1, concurrent=1, generated_tokens_per_minute=5)
    assert exceeded(full) == []
    full.start_request(0)
    full.take(GENERATED, 5, 0)
    expected = ["1 requests at once", "1 requests per minute", "5 generated tokens per minute"]
    assert exceeded(full) == expected


def test_only_who_runs_counts_at_once() -> None:
    """A place is free again when a request leaves."""
    narrow = counter(concurrent=2)
    narrow.start_request(0)
    narrow.start_request(0)
    assert exceeded(narrow) == ["2 requests at once"]
    narrow.end_request()
    assert exceeded(narrow) == []


def test_users_have_limits_of_their_own() -> None:
    """Of a key's limits only those for users hold for a user."""
    user = UsageCounter()
    user.set_limits(
        limits_of_user(KeyLimits(requests_per_minute=1, concurrent=1, user_requests_per_minute=2))
    )
    user.start_request(0)
    assert exceeded(user) == []
    user.start_request(0)
    assert exceeded(user) == ["2 requests per minute"]


def test_changed_limits_hold_at_once() -> None:
    """A limit that is raised, added or taken away while requests come holds for the next."""
    changed = counter(requests_per_minute=1)
    changed.start_request(0)
    changed.set_limits(limits_of_key(KeyLimits(requests_per_minute=1, prompt_tokens_per_minute=9)))
    assert exceeded(changed) == ["1 requests per minute"]
    assert changed.remaining(0)[PROMPT] == (9, 9)
    changed.set_limits(limits_of_key(KeyLimits(prompt_tokens_per_minute=9)))
    assert exceeded(changed) == []
    assert REQUESTS not in changed.remaining(0)


def test_idle_is_who_could_be_new() -> None:
    """Who runs, or still owes something, is not idle."""
    one = counter(requests_per_minute=60)
    one.start_request(10)
    assert not one.is_idle(100)
    one.end_request()
    assert not one.is_idle(10.5)
    assert one.is_idle(11)
