from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rapport.service.keys.bucket import MINUTE_S, Bucket

LIMITS = st.integers(1, 100_000)
STARTS = st.floats(0, 1e9)


@given(LIMITS, STARTS)
def test_all_of_a_minute_may_be_taken_at_once(limit: int, start: float) -> None:
    """A full bucket has the limit, to the last one, and then nothing."""
    bucket = Bucket(limit)
    bucket.take(limit - 1, start)
    assert bucket.wait_s(start) == 0
    bucket.take(1, start)
    assert bucket.wait_s(start) > 0


@given(LIMITS, STARTS, st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), max_size=50))
def test_never_more_than_rate_and_burst(
    limit: int, start: float, asked: list[tuple[float, int]]
) -> None:
    """What is taken by who asks first is at most the limit and what came back since."""
    bucket, now, taken = Bucket(limit), start, 0
    for pause, tries in asked:
        now += pause
        for _ in range(tries):
            if bucket.wait_s(now) == 0:
                bucket.take(1, now)
                taken += 1
    assert taken <= limit + limit * (now - start) / MINUTE_S + 1e-3


@given(LIMITS, STARTS, st.integers(1, 200_000))
def test_waiting_is_exact(limit: int, start: float, amount: int) -> None:
    """After the wait there is one again, and not before."""
    bucket = Bucket(limit)
    bucket.take(amount, start)
    if wait := bucket.wait_s(start):
        assert bucket.wait_s(start + wait) == 0
        assert bucket.wait_s(start + wait * 0.99 - 1e-5) > 0


def test_debt_is_paid_back_at_the_rate() -> None:
    """Overdrawn by two minutes' worth, a bucket is empty two minutes later and full in three."""
    bucket = Bucket(60)
    bucket.take(180, 1000)
    assert bucket.remaining(1000) == -120
    assert bucket.remaining(1120) == 0
    assert not bucket.is_full(1179)
    assert bucket.is_full(1180)
    assert bucket.remaining(5000) == 60


def test_time_away_is_no_credit() -> None:
    """However long nobody came, no more than the limit is there."""
    bucket = Bucket(10)
    bucket.take(1, 0)
    assert bucket.remaining(1e9) == 10
