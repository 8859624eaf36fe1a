from __future__ import annotations

import pytest

from bench.errors import BenchError
from bench.fairness import figures_of
from bench.measure import Record


def record(ttft: float, error: str | None = None) -> Record:
    return Record(0, texts=[ttft], ended=2.0, completion_tokens=6, error=error)


def test_the_ratio_is_that_of_the_late_ones() -> None:
    alone, beside = [record(1)] * 20, [record(1)] * 10 + [record(3)] * 10
    figures = figures_of(alone, beside, [record(1)] * 40)
    assert figures.ratio == pytest.approx(3)
    assert figures.greedy_tokens == pytest.approx(40 * 6 / 40)


def test_a_light_user_must_be_answered() -> None:
    with pytest.raises(BenchError, match="HTTP 429"):
        figures_of([record(1)], [record(1, "HTTP 429")], [])
