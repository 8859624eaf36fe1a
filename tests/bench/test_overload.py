from __future__ import annotations

import pytest

from bench.measure import Record
from bench.overload import REFUSED, figures_of


def record(started: float, ttft: float, seconds: float, error: str | None = None) -> Record:
    """Ten tokens, or a refusal."""
    ended = started + seconds
    texts = [] if error else [started + ttft]
    return Record(
        started, texts=texts, finished=ended, ended=ended, completion_tokens=10, error=error
    )


def test_figures_are_those_of_the_window() -> None:
    """What was sent in it gives latencies, what ended in it gives rates."""
    records = [
        record(0, 1, 12),  # sent before, ended within
        record(11, 1, 4),
        record(12, 5, 6),  # too late for the limit
        record(13, 0, 0.01, REFUSED),
        record(14, 0, 9, "out of time"),
        record(18, 1, 9),  # ended behind
    ]
    figures = figures_of(2, 3.5, records, window=(10, 20), limit=2)
    assert (figures.accepted, figures.refused, figures.failed) == (3, 1, {"out of time": 1})
    assert figures.goodput == pytest.approx(2 / 10)
    assert figures.tokens == pytest.approx(30 / 10)
    assert figures.ttft is not None
    assert figures.ttft.p50 == pytest.approx(1)
    assert figures.refusal is not None
    assert figures.refusal.p50 == pytest.approx(0.01)
