from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rapport.cli.scrape import Interval, Scrape, quantile

BOUNDS = (0.1, 0.5, 1, 5, float("inf"))


class Process:
    """Metrics as a process has them; `at` is when it is looked at, in seconds."""

    def __init__(self, started: float = 1000) -> None:
        self.registry = CollectorRegistry()
        name = "process_start_time_seconds"
        Gauge(name, "-", registry=self.registry).set(started)
        self.counter = Counter("rapport_things", "-", ["kind"], registry=self.registry)
        self.times = Histogram("rapport_times", "-", buckets=BOUNDS, registry=self.registry)

    def scrape(self, at: float) -> Scrape:
        families = text_string_to_metric_families(generate_latest(self.registry).decode())
        return Scrape(tuple(sample for family in families for sample in family.samples), at)


def test_rates() -> None:
    """A rate is what all series gained, or those with a label, in each second."""
    process = Process()
    process.counter.labels("a").inc(5)
    before = process.scrape(10)
    process.counter.labels("a").inc(6)
    process.counter.labels("b").inc(2)
    seen = Interval.between(before, process.scrape(12))
    assert seen.rate("things_total") == 4
    assert seen.rate("things_total", kind="b") == 1
    assert seen.rate("others_total") == 0


def test_restart() -> None:
    """Of a process that was started again all counts since then are shown, and nothing negative."""
    before, after = Process(1000), Process(2000)
    before.counter.labels("a").inc(100)
    after.counter.labels("a").inc(3)
    seen = Interval.between(before.scrape(0), after.scrape(1))
    assert seen.gain("things_total") == 3


def test_nothing_new() -> None:
    """Without new values there is neither mean, share nor quantile."""
    process = Process()
    process.times.observe(0.2)
    seen = Interval.between(process.scrape(0), process.scrape(1))
    assert seen.mean("times") is seen.quantile("times", 0.5) is seen.quantile("none", 0.5) is None
    assert seen.share("things_total", "things_total") is None


def test_only_new_values_count() -> None:
    """Quantiles and means are of what came in the interval."""
    process = Process()
    for _ in range(100):
        process.times.observe(4)
    before = process.scrape(0)
    process.times.observe(0.2)
    seen = Interval.between(before, process.scrape(1))
    assert seen.mean("times") == pytest.approx(0.2)
    assert 0.1 <= (seen.quantile("times", 0.9) or 0) <= 0.5


@given(
    st.lists(st.floats(0, 5, exclude_min=True), min_size=1, max_size=50),
    st.floats(0.01, 1),
)
def test_quantiles(values: list[float], q: float) -> None:
    """A quantile is in the bucket of the value that has its rank."""
    buckets = {bound: float(sum(value <= bound for value in values)) for bound in BOUNDS}
    found = quantile(q, buckets)
    assert found is not None
    rank = int(np.ceil(q * len(values) - 1e-9)) - 1
    value = sorted(values)[rank]
    high = next(bound for bound in BOUNDS if value <= bound)
    low = max((bound for bound in BOUNDS if bound < high), default=0)
    assert low - 1e-9 <= found <= high + 1e-9


def test_beyond_the_last_bound() -> None:
    """Of values over the last bound no more is known than that bound."""
    assert quantile(0.5, {1.0: 0, float("inf"): 3}) == 1.0


def test_labels() -> None:
    """The series that is not 0 tells its label."""
    registry = CollectorRegistry()
    state = Gauge("rapport_state", "-", ["state"], registry=registry)
    state.labels("loading").set(0)
    state.labels("serving").set(1)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    seen = Scrape(tuple(sample for family in families for sample in family.samples), 0)
    assert seen.label("state", "state") == "serving"
    assert seen.label("other", "state") == ""
