from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.errors import RateLimitedError
from rapport.service.keys.key_store import Key
from rapport.service.keys.limits import KeyLimits
from rapport.service.keys.rate_limiter import MIN_SWEEP_SIZE, RateLimiter, RequestQuota


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(clock)


def key(name: str = "a", **limits: int) -> Key:
    return Key(sha256(name.encode()).hexdigest(), KeyLimits(**limits))


@dataclass
class Usage:
    """The tokens of a request."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def has_first_token(self) -> bool:
        return self.completion_tokens > 0


@contextmanager
def admitted(quota: RequestQuota, user: str = "", usage: Usage | None = None) -> Iterator[None]:
    """A request whose message came."""
    with quota.admit(usage or Usage()):
        quota.confirm(user)
        yield


def use(quota: RequestQuota, user: str = "", usage: Usage | None = None) -> None:
    """One whole request."""
    with admitted(quota, user, usage):
        pass


def test_requests_per_minute(limiter: RateLimiter, clock: Clock) -> None:
    """After the limit's number requests are refused, until the wait that they name has passed."""
    limited = key(requests_per_minute=3)
    for _ in range(3):
        use(limiter.quota(limited))
    with pytest.raises(RateLimitedError) as raised:
        use(limiter.quota(limited))
    assert str(raised.value) == "The limit of this key is reached: 3 requests per minute"
    assert raised.value.retry_after == 20
    clock.now += 19.9
    with pytest.raises(RateLimitedError):
        use(limiter.quota(limited))
    clock.now += 0.1
    use(limiter.quota(limited))


def test_refusals_cost_nothing(limiter: RateLimiter, clock: Clock) -> None:
    """Who keeps asking is let in no later for it."""
    limited = key(requests_per_minute=60)
    for _ in range(60):
        use(limiter.quota(limited))
    for _ in range(1000):
        with pytest.raises(RateLimitedError):
            use(limiter.quota(limited))
    clock.now += 1
    use(limiter.quota(limited))


@pytest.mark.parametrize(
    ("limit", "wait"),
    [
        ("prompt_tokens_per_minute", 60 + 6),
        ("cache_adjusted_prompt_tokens_per_minute", 30 + 6),
        ("generated_tokens_per_minute", 0 + 6),
    ],
)
def test_tokens_are_charged_to_their_kind(
    limiter: RateLimiter, clock: Clock, limit: str, wait: float
) -> None:
    """A request may overdraw what tokens there are; the next waits until the debt is paid."""
    limited = key(**{limit: 10})
    use(limiter.quota(limited), "", Usage(20, 5, 10))
    with pytest.raises(RateLimitedError) as raised:
        use(limiter.quota(limited))
    assert raised.value.retry_after == pytest.approx(wait)
    clock.now += raised.value.retry_after
    use(limiter.quota(limited))


def test_tokens_are_charged_once(limiter: RateLimiter) -> None:
    """What was charged when the answer began is not charged again at its end."""
    limited = key(prompt_tokens_per_minute=100, generated_tokens_per_minute=100)
    quota, used = limiter.quota(limited), Usage(30)
    with quota.admit(used):
        quota.charge(used)
        assert quota.headers()["x-ratelimit-remaining-tokens-prompt"] == "70"
        used.completion_tokens += 2
        quota.charge(used)
    assert quota.headers() == {
        "x-ratelimit-limit-tokens-prompt": "100",
        "x-ratelimit-remaining-tokens-prompt": "70",
        "x-ratelimit-limit-tokens-generated": "100",
        "x-ratelimit-remaining-tokens-generated": "98",
        "x-ratelimit-over-limit": "no",
    }


def test_the_prompt_is_charged_before_the_answer(limiter: RateLimiter) -> None:
    """Who comes while another's prompt waits finds its tokens taken; the cached ones not yet."""
    limited = key(prompt_tokens_per_minute=30, cache_adjusted_prompt_tokens_per_minute=30)
    quota, used = limiter.quota(limited), Usage(30, 10)
    with quota.admit(used):
        quota.charge(used)
        sent = quota.headers()
        assert sent["x-ratelimit-remaining-tokens-prompt"] == "0"
        assert sent["x-ratelimit-remaining-tokens-cache-adjusted-prompt"] == "30"
        with pytest.raises(RateLimitedError, match="30 prompt tokens per minute"):
            use(limiter.quota(limited))
    assert quota.headers()["x-ratelimit-remaining-tokens-cache-adjusted-prompt"] == "10"


def test_headers_name_what_is_limited_alone(limiter: RateLimiter) -> None:
    """Who has no limits hears of none."""
    free = limiter.quota(key(concurrent=1))
    use(free)
    assert free.headers() == {}
    limited = limiter.quota(key("b", requests_per_minute=2))
    use(limited)
    assert limited.headers() == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-over-limit": "no",
    }


def test_over_the_limit(limiter: RateLimiter) -> None:
    """Over is who was refused, whatever the limit, and who overdrew."""
    debtor = limiter.quota(key(generated_tokens_per_minute=5))
    use(debtor, usage=Usage(completion_tokens=6))
    assert debtor.headers()["x-ratelimit-over-limit"] == "yes"
    assert debtor.headers()["x-ratelimit-remaining-tokens-generated"] == "0"
    narrow = key("b", concurrent=1)
    refused = limiter.quota(narrow)
    with admitted(limiter.quota(narrow)), pytest.raises(RateLimitedError):
        use(refused)
    assert refused.headers() == {"x-ratelimit-over-limit": "yes"}


def test_the_longest_wait_is_told(limiter: RateLimiter) -> None:
    """Of several limits that are reached, that which takes longest says when to return."""
    limited = key(requests_per_minute=1, user_requests_per_minute=1, concurrent=1)
    with (
        admitted(limiter.quota(limited), "ann"),
        pytest.raises(RateLimitedError) as raised,
    ):
        use(limiter.quota(limited), "ann")
    assert raised.value.retry_after == 60


def test_users_are_limited_each(limiter: RateLimiter) -> None:
    """One user of a key does not use up another's, nor those of that name of another key."""
    limited = key(user_requests_per_minute=1)
    use(limiter.quota(limited), "ann")
    with pytest.raises(RateLimitedError, match="The limit of this user") as raised:
        use(limiter.quota(limited), "ann")
    assert raised.value.subject == "user:ann"
    use(limiter.quota(limited), "bob")
    use(limiter.quota(key("b", user_requests_per_minute=1)), "ann")
    use(limiter.quota(limited))
    use(limiter.quota(limited))


def test_who_is_refused_as_a_user_costs_the_key_nothing(limiter: RateLimiter) -> None:
    """A user over its limit takes none of the key's requests."""
    limited = key(requests_per_minute=2, user_requests_per_minute=1)
    use(limiter.quota(limited), "ann")
    with pytest.raises(RateLimitedError):
        use(limiter.quota(limited), "ann")
    use(limiter.quota(limited), "bob")


def test_the_tighter_limit_is_in_the_headers(limiter: RateLimiter) -> None:
    """Where key and user have a limit, the one of which less is left is reported."""
    limited = key(requests_per_minute=10, user_requests_per_minute=3)
    quota = limiter.quota(limited)
    use(quota, "ann")
    assert quota.headers()["x-ratelimit-limit-requests"] == "3"
    assert quota.headers()["x-ratelimit-remaining-requests"] == "2"


def test_errors_leave_their_place(limiter: RateLimiter) -> None:
    """A request that fails is not counted as running any more."""
    narrow = key(concurrent=1)
    with pytest.raises(KeyError), admitted(limiter.quota(narrow)):
        raise KeyError
    use(limiter.quota(narrow))


def test_a_call_without_a_request_counts_while_it_lasts(limiter: RateLimiter) -> None:
    """It takes a place and a request of the minute from its key, and gives both back."""
    limited = key(concurrent=1, requests_per_minute=2)
    with (
        limiter.quota(limited).admit(Usage()),
        pytest.raises(RateLimitedError, match="1 requests at once"),
    ):
        use(limiter.quota(limited))
    slow = key("b", requests_per_minute=2)
    with (
        limiter.quota(slow).admit(Usage()),
        limiter.quota(slow).admit(Usage()),
        pytest.raises(RateLimitedError, match="2 requests per minute"),
    ):
        use(limiter.quota(slow))
    for limits in (limited, slow):
        use(limiter.quota(limits))
        use(limiter.quota(limits))
        with pytest.raises(RateLimitedError, match="2 requests per minute"):
            use(limiter.quota(limits))


def test_seven_requests_a_minute(limiter: RateLimiter, clock: Clock) -> None:
    """Times that are no whole milliseconds are rounded up: who waits as long is let in."""
    limited = key(requests_per_minute=7)
    for _ in range(7):
        use(limiter.quota(limited))
    for _ in range(20):
        with pytest.raises(RateLimitedError) as raised:
            use(limiter.quota(limited))
        assert raised.value.retry_after == 8.572
        clock.now += raised.value.retry_after
        use(limiter.quota(limited))
        clock.now += 60 / 7 - raised.value.retry_after


@pytest.mark.parametrize(
    ("limit", "usage"),
    [
        ("prompt_tokens_per_minute", Usage(10)),
        ("cache_adjusted_prompt_tokens_per_minute", Usage(15, 5)),
        ("generated_tokens_per_minute", Usage(0, 0, 10)),
    ],
)
def test_a_limit_that_is_used_exactly(
    limiter: RateLimiter, clock: Clock, limit: str, usage: Usage
) -> None:
    """Nothing is left then, and nothing is overdrawn; the next token is there after 6 s."""
    quota = limiter.quota(key(**{limit: 10}))
    use(quota, usage=usage)
    headers = quota.headers()
    assert [value for name, value in headers.items() if "remaining" in name] == ["0"]
    assert headers["x-ratelimit-over-limit"] == "no"
    with pytest.raises(RateLimitedError) as raised:
        use(limiter.quota(key(**{limit: 10})))
    assert raised.value.retry_after == 6
    clock.now += 6
    use(limiter.quota(key(**{limit: 10})))


def test_idle_users_are_forgotten(limiter: RateLimiter, clock: Clock) -> None:
    """Of any number of users, only those are kept that run or have something to pay back."""
    limited = key(user_requests_per_minute=1, user_concurrent=1)
    with ExitStack() as running:
        running.enter_context(admitted(limiter.quota(limited), "long"))
        for number in range(5 * MIN_SWEEP_SIZE):
            use(limiter.quota(limited), f"user {number}")
            clock.now += 0.1
            assert len(limiter) <= 2 * MIN_SWEEP_SIZE
        with pytest.raises(RateLimitedError):
            use(limiter.quota(limited), f"user {5 * MIN_SWEEP_SIZE - 1}")
        with pytest.raises(RateLimitedError, match="1 requests at once"):
            use(limiter.quota(limited), "long")
    clock.now += 60
    limiter.sweep()
    assert len(limiter) == 0


def test_nobody_is_forgotten_while_being_let_in(limiter: RateLimiter, clock: Clock) -> None:
    """A key whose request makes the idle ones be forgotten keeps its own count."""
    for number in range(MIN_SWEEP_SIZE - 2):
        use(limiter.quota(key("crowd", user_requests_per_minute=1)), f"user {number}")
    clock.now += 60
    limited = key(requests_per_minute=1, user_requests_per_minute=1)
    use(limiter.quota(limited), "ann")
    with pytest.raises(RateLimitedError, match="this key"):
        use(limiter.quota(limited), "bob")


@given(
    st.integers(1, 20),
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["enter", "leave"])), max_size=100),
)
def test_bookkeeping(rate: int, concurrent: int, steps: list[tuple[float, str]]) -> None:
    """In any order of coming and going the bounds hold, and in the end nothing is counted."""
    clock = Clock()
    limiter, limited = RateLimiter(clock), key(requests_per_minute=rate, concurrent=concurrent)
    running: list[ExitStack] = []
    count, start = 0, clock.now
    for pause, step in steps:
        clock.now += pause
        if step == "leave" and running:
            running.pop(0).close()
        elif step == "enter":
            stack = ExitStack()
            try:
                stack.enter_context(admitted(limiter.quota(limited)))
            except RateLimitedError:
                pass
            else:
                running.append(stack)
                count += 1
        assert len(running) <= concurrent
        assert count <= rate + rate * (clock.now - start) / 60 + 1e-3
    for stack in running:
        stack.close()
    clock.now += 60
    limiter.sweep()
    assert len(limiter) == 0


def test_the_wall_clock_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set to another year, the clock on the wall changes no limit."""
    limiter, limited = RateLimiter(), key(requests_per_minute=1)
    use(limiter.quota(limited))
    for year in (0, 4e9):
        monkeypatch.setattr("time.time", lambda year=year: year)
        with pytest.raises(RateLimitedError) as raised:
            use(limiter.quota(limited))
        assert 50 < raised.value.retry_after <= 60
