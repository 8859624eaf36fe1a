from __future__ import annotations

from typing import Any

import pytest

from bench.measure import Percentiles, Record, Summary


def record(**fields: Any) -> Record:
    return Record(**({"started": 10.0, "ended": 11.0} | fields))


def test_percentiles_interpolate() -> None:
    """Percentiles lie between the nearest two values, and there are none of nothing."""
    known = Percentiles.of([*map(float, range(101)), None])
    assert known == Percentiles(50, 95, 99)
    few = Percentiles.of([1.0, 2.0, 3.0, 4.0])
    assert few is not None
    assert (few.p50, few.p95, few.p99) == pytest.approx((2.5, 3.85, 3.97))
    assert Percentiles.of([None]) is None


def test_itl_is_last_minus_first_token_over_n_minus_1() -> None:
    """Tokens count, not pieces: three pieces of five tokens have four intervals."""
    seen = record(texts=[10.2, 10.4, 10.9], finished=11.0, completion_tokens=5)
    assert seen.ttft == pytest.approx(0.2)
    assert seen.itl == pytest.approx(0.8 / 4)
    assert seen.gaps == pytest.approx([0.2, 0.5])


def test_one_token_has_no_itl() -> None:
    """With one token there is nothing between tokens to measure."""
    seen = record(texts=[10.2], finished=10.2, completion_tokens=1)
    assert seen.itl is None


def test_first_token_without_text_is_seen_at_the_end() -> None:
    """A token without text is first noticed when the finish reason comes."""
    assert record(finished=10.5, completion_tokens=1).ttft == pytest.approx(0.5)


def test_failed_requests_are_only_counted() -> None:
    """A failed request adds to the errors and to no figure of latency or tokens."""
    good = record(texts=[10.5], finished=11.0, completion_tokens=3, prompt_tokens=7)
    bad = record(ended=14.0, error="HTTP 429")
    summary = Summary.of([good, bad, bad])
    assert (summary.requests, summary.ok, summary.errors) == (3, 1, {"HTTP 429": 2})
    assert summary.latency == Percentiles(1.0, 1.0, 1.0)
    assert (summary.duration, summary.output_rate, summary.prompt_rate) == (4.0, 0.75, 1.75)
    assert summary.stream_rate == pytest.approx(4.0)
