from __future__ import annotations

import pytest

from service.engine.admission import LONGEST_RETRY, SHORTEST_RETRY, Admission, Limits
from service.engine.errors import Overloaded
from service.engine.generation import Generation
from service.engine.pace import Pace
from tests.service.engine.fake import greedy


def admission(requests: int = 100, tokens: int = 0, ttft: float = 0) -> Admission:
    return Admission(Limits(requests, tokens, ttft), slots=2, pace=Pace(0.05))


def lives(count: int, *, begun: bool = False, length: int = 10) -> list[Generation]:
    generations = [Generation(greedy("a" * length, 5), lambda _: None) for _ in range(count)]
    for generation in generations if begun else ():
        generation.begin(generation.submitted_at)
    return generations


def test_requests_that_wait_are_bounded() -> None:
    """Those that run do not count."""
    bounded = admission(requests=3)
    bounded.check([*lives(2), *lives(9, begun=True)], 1)
    with pytest.raises(Overloaded, match="too many requests"):
        bounded.check(lives(3), 1)


def test_tokens_that_wait_are_bounded() -> None:
    """A prompt that finds nobody waiting is let in however long it is."""
    bounded = admission(tokens=25)
    bounded.check(lives(2), 5)
    bounded.check([], 1000)
    with pytest.raises(Overloaded, match="prompt tokens"):
        bounded.check(lives(2), 6)


def test_the_first_token_must_be_near() -> None:
    near = admission(ttft=1)
    near.check(lives(1), 20)
    with pytest.raises(Overloaded, match="the limit is 1 s") as refused:
        near.check(lives(1, length=2000), 20)
    assert SHORTEST_RETRY <= refused.value.retry_after <= LONGEST_RETRY


def test_the_first_token_is_later_behind_more() -> None:
    """It grows with what is read first and with those who get a slot before."""
    ahead = admission()
    forecasts = [ahead.ttft(lives(count), 10) for count in range(6)]
    assert forecasts == sorted(set(forecasts))
    assert ahead.ttft([], 500) > ahead.ttft([], 10)
    assert ahead.ttft(lives(2, begun=True), 10) > ahead.ttft([], 10)


def test_slow_requests_are_waited_for_longer() -> None:
    slow, quick = admission(), admission()
    for _ in range(50):
        slow.saw(20)
        quick.saw(0.1)
    assert slow.ttft(lives(4), 10) > 5 * quick.ttft(lives(4), 10)


def test_retry_after_is_bounded() -> None:
    hopeless = admission(ttft=0.001)
    with pytest.raises(Overloaded) as refused:
        hopeless.check(lives(99, length=10**6), 1)
    assert refused.value.retry_after == LONGEST_RETRY
