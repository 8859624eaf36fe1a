from __future__ import annotations

from contextlib import ExitStack
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, GenerationRequest
from rapport.service.errors import RateLimitedError
from rapport.service.interceptors.account import Account
from rapport.service.keys.key_store import Key
from rapport.service.keys.limits import Limits
from rapport.service.keys.quotas import FEW, Quotas, Visit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(clock: Clock) -> Quotas:
    return Quotas(clock)


def key(name: str = "a", **limits: int) -> Key:
    return Key(sha256(name.encode()).hexdigest(), Limits(**limits))


def account(prompt: int = 0, cached: int = 0, generated: int = 0) -> Account:
    """That of an RPC that used so many tokens."""
    made = Account("method", "id")
    made.generation = Generation(GenerationRequest(tuple(range(prompt)), 9), lambda _: None)
    made.generation.reuse(cached)
    if generated:
        made.generation.add(Delta(0, "", list(range(generated))))
    return made


def use(visit: Visit, used: Account | None = None) -> None:
    """One whole request."""
    with visit.admitted(used or account()):
        pass


def test_requests_per_minute(quotas: Quotas, clock: Clock) -> None:
    """After the limit's number requests are refused, until as long as they are told has passed."""
    limited = key(requests_per_minute=3)
    for _ in range(3):
        use(quotas.visit(limited, ""))
    with pytest.raises(RateLimitedError) as raised:
        use(quotas.visit(limited, ""))
    assert str(raised.value) == "The limit of this key is reached: 3 requests per minute"
    assert raised.value.retry_after == 20
    clock.now += 19.9
    with pytest.raises(RateLimitedError):
        use(quotas.visit(limited, ""))
    clock.now += 0.1
    use(quotas.visit(limited, ""))


def test_refusals_cost_nothing(quotas: Quotas, clock: Clock) -> None:
    """Who keeps asking is let in no later for it."""
    limited = key(requests_per_minute=60)
    for _ in range(60):
        use(quotas.visit(limited, ""))
    for _ in range(1000):
        with pytest.raises(RateLimitedError):
            use(quotas.visit(limited, ""))
    clock.now += 1
    use(quotas.visit(limited, ""))


@pytest.mark.parametrize(
    ("limit", "wait"),
    [
        ("prompt_tokens_per_minute", 60 + 6),
        ("cache_adjusted_prompt_tokens_per_minute", 30 + 6),
        ("generated_tokens_per_minute", 0 + 6),
    ],
)
def test_tokens_are_charged_to_their_kind(
    quotas: Quotas, clock: Clock, limit: str, wait: float
) -> None:
    """A request may overdraw what tokens there are; the next waits until the debt is paid."""
    limited = key(**{limit: 10})
    use(quotas.visit(limited, ""), account(prompt=20, cached=5, generated=10))
    with pytest.raises(RateLimitedError) as raised:
        use(quotas.visit(limited, ""))
    assert raised.value.retry_after == pytest.approx(wait)
    clock.now += raised.value.retry_after
    use(quotas.visit(limited, ""))


def test_tokens_are_charged_once(quotas: Quotas) -> None:
    """What was charged when the answer began is not charged again at its end."""
    limited = key(prompt_tokens_per_minute=100, generated_tokens_per_minute=100)
    visit, used = quotas.visit(limited, ""), account(prompt=30)
    with visit.admitted(used):
        visit.charge(used)
        assert visit.headers()["x-ratelimit-remaining-tokens-prompt"] == "70"
        assert used.generation is not None
        used.generation.add(Delta(0, "", [1, 2]))
        visit.charge(used)
    assert visit.headers() == {
        "x-ratelimit-limit-tokens-prompt": "100",
        "x-ratelimit-remaining-tokens-prompt": "70",
        "x-ratelimit-limit-tokens-generated": "100",
        "x-ratelimit-remaining-tokens-generated": "98",
        "x-ratelimit-over-limit": "no",
    }


def test_the_prompt_is_charged_before_the_answer(quotas: Quotas) -> None:
    """Who comes while another's prompt waits finds its tokens taken; the cached ones not yet."""
    limited = key(prompt_tokens_per_minute=30, cache_adjusted_prompt_tokens_per_minute=30)
    visit, used = quotas.visit(limited, ""), account(prompt=30, cached=10)
    with visit.admitted(used):
        visit.charge(used)
        told = visit.headers()
        assert told["x-ratelimit-remaining-tokens-prompt"] == "0"
        assert told["x-ratelimit-remaining-tokens-cache-adjusted-prompt"] == "30"
        with pytest.raises(RateLimitedError, match="30 prompt tokens per minute"):
            use(quotas.visit(limited, ""))
    assert visit.headers()["x-ratelimit-remaining-tokens-cache-adjusted-prompt"] == "10"


def test_headers_name_what_is_limited_alone(quotas: Quotas) -> None:
    """Who has no limits hears of none."""
    free = quotas.visit(key(concurrent=1), "")
    use(free)
    assert free.headers() == {}
    limited = quotas.visit(key("b", requests_per_minute=2), "")
    use(limited)
    assert limited.headers() == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-over-limit": "no",
    }


def test_over_the_limit(quotas: Quotas) -> None:
    """Over is who was refused, whatever the limit, and who overdrew."""
    debtor = quotas.visit(key(generated_tokens_per_minute=5), "")
    use(debtor, account(generated=6))
    assert debtor.headers()["x-ratelimit-over-limit"] == "yes"
    assert debtor.headers()["x-ratelimit-remaining-tokens-generated"] == "0"
    narrow = key("b", concurrent=1)
    refused = quotas.visit(narrow, "")
    with quotas.visit(narrow, "").admitted(account()), pytest.raises(RateLimitedError):
        use(refused)
    assert refused.headers() == {"x-ratelimit-over-limit": "yes"}


def test_the_longest_wait_is_told(quotas: Quotas) -> None:
    """Of several limits that are reached, that which takes longest says when to return."""
    limited = key(requests_per_minute=1, user_requests_per_minute=1, concurrent=1)
    with (
        quotas.visit(limited, "ann").admitted(account()),
        pytest.raises(RateLimitedError) as raised,
    ):
        use(quotas.visit(limited, "ann"))
    assert raised.value.retry_after == 60


def test_users_are_limited_each(quotas: Quotas) -> None:
    """One user of a key does not use up another's, nor those of that name of another key."""
    limited = key(user_requests_per_minute=1)
    use(quotas.visit(limited, "ann"))
    with pytest.raises(RateLimitedError, match="The limit of this user") as raised:
        use(quotas.visit(limited, "ann"))
    assert raised.value.subject == "user:ann"
    use(quotas.visit(limited, "bob"))
    use(quotas.visit(key("b", user_requests_per_minute=1), "ann"))
    use(quotas.visit(limited, ""))
    use(quotas.visit(limited, ""))


def test_who_is_refused_as_a_user_costs_the_key_nothing(quotas: Quotas) -> None:
    """A user over its limit takes none of the key's requests."""
    limited = key(requests_per_minute=2, user_requests_per_minute=1)
    use(quotas.visit(limited, "ann"))
    with pytest.raises(RateLimitedError):
        use(quotas.visit(limited, "ann"))
    use(quotas.visit(limited, "bob"))


def test_the_tighter_limit_is_in_the_headers(quotas: Quotas) -> None:
    """Where key and user have a limit, the one of which less is left is told."""
    limited = key(requests_per_minute=10, user_requests_per_minute=3)
    visit = quotas.visit(limited, "ann")
    use(visit)
    assert visit.headers()["x-ratelimit-limit-requests"] == "3"
    assert visit.headers()["x-ratelimit-remaining-requests"] == "2"


def test_errors_leave_their_place(quotas: Quotas) -> None:
    """A request that fails is not counted as running any more."""
    narrow = key(concurrent=1)
    with pytest.raises(KeyError), quotas.visit(narrow, "").admitted(account()):
        raise KeyError
    use(quotas.visit(narrow, ""))


def test_idle_users_are_forgotten(quotas: Quotas, clock: Clock) -> None:
    """Of any number of users, only those are kept that run or have something to pay back."""
    limited = key(user_requests_per_minute=1)
    with ExitStack() as running:
        running.enter_context(quotas.visit(limited, "long").admitted(account()))
        for number in range(5 * FEW):
            use(quotas.visit(limited, f"user {number}"))
            clock.now += 0.1
            assert len(quotas) <= 2 * FEW
        with pytest.raises(RateLimitedError):
            use(quotas.visit(limited, f"user {5 * FEW - 1}"))
    assert quotas._tallies[limited.id, "long"].running == 0


def test_nobody_is_forgotten_while_being_let_in(quotas: Quotas, clock: Clock) -> None:
    """A key whose request makes the idle ones be forgotten keeps its own count."""
    for number in range(FEW - 2):
        use(quotas.visit(key("crowd", user_requests_per_minute=1), f"user {number}"))
    clock.now += 60
    limited = key(requests_per_minute=1, user_requests_per_minute=1)
    use(quotas.visit(limited, "ann"))
    with pytest.raises(RateLimitedError, match="this key"):
        use(quotas.visit(limited, "bob"))


@given(
    st.integers(1, 20),
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["enter", "leave"])), max_size=100),
)
def test_bookkeeping(rate: int, concurrent: int, steps: list[tuple[float, str]]) -> None:
    """In any order of coming and going the bounds hold, and in the end nothing is counted."""
    clock = Clock()
    quotas, limited = Quotas(clock), key(requests_per_minute=rate, concurrent=concurrent)
    running: list[ExitStack] = []
    admitted, start = 0, clock.now
    for pause, step in steps:
        clock.now += pause
        if step == "leave" and running:
            running.pop(0).close()
        elif step == "enter":
            stack = ExitStack()
            try:
                stack.enter_context(quotas.visit(limited, "").admitted(account()))
            except RateLimitedError:
                pass
            else:
                running.append(stack)
                admitted += 1
        assert len(running) <= concurrent
        assert admitted <= rate + rate * (clock.now - start) / 60 + 1e-3
    for stack in running:
        stack.close()
    clock.now += 60
    quotas._forget_idle()
    assert len(quotas) == 0


def test_the_wall_clock_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set to another year, the clock on the wall changes no limit."""
    quotas, limited = Quotas(), key(requests_per_minute=1)
    use(quotas.visit(limited, ""))
    for year in (0, 4e9):
        monkeypatch.setattr("time.time", lambda year=year: year)
        with pytest.raises(RateLimitedError) as raised:
            use(quotas.visit(limited, ""))
        assert 50 < raised.value.retry_after <= 60
