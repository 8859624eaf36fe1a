"""Scrapes of a process's metrics, and what changed between two of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

TIMEOUT_S = 5.0
PREFIX = "rapport_"


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one process at one time; none stand for a process that has just begun."""

    samples: tuple[Sample, ...] = ()
    at: float = field(default_factory=time.monotonic)

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of the name that have these labels."""
        return sum(sample.value for sample in self._series(name, labels))

    def label(self, name: str, label: str) -> str:
        """A label of the series of the name that is not 0; empty if there is none."""
        return next((s.labels[label] for s in self._series(name, {}) if s.value), "")

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """How many values are up to each bound, over all series that have these labels."""
        found: dict[float, float] = {}
        for sample in self._series(f"{name}_bucket", labels):
            bound = float(sample.labels["le"])
            found[bound] = found.get(bound, 0) + sample.value
        return found

    def _series(self, name: str, labels: dict[str, str]) -> list[Sample]:
        full = name if name.startswith("process_") else PREFIX + name
        named = (sample for sample in self.samples if sample.name == full)
        return [sample for sample in named if labels.items() <= sample.labels.items()]


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two scrapes of a process that ran on, or since its start."""

    before: Scrape
    now: Scrape

    @classmethod
    def between(cls, before: Scrape, now: Scrape) -> Interval:
        start = "process_start_time_seconds"
        restarted = before.total(start) != now.total(start)
        return cls(Scrape(at=before.at) if restarted else before, now)

    def rate(self, name: str, **labels: str) -> float:
        """What a counter gained, per second."""
        return self.gain(name, **labels) / max(self.now.at - self.before.at, 1e-9)

    def gain(self, name: str, **labels: str) -> float:
        return self.now.total(name, **labels) - self.before.total(name, **labels)

    def share(self, part: str, whole: str) -> float | None:
        """What one counter gained of what another did; None if that is nothing."""
        total = self.gain(whole)
        return self.gain(part) / total if total else None

    def mean(self, name: str) -> float | None:
        """The mean of a histogram's new values; None if there are none."""
        return self.share(f"{name}_sum", f"{name}_count")

    def quantile(self, name: str, q: float, **labels: str) -> float | None:
        """A quantile of a histogram's new values, as Prometheus has it; None if there are none."""
        before, now = self.before.buckets(name, **labels), self.now.buckets(name, **labels)
        return quantile(q, {bound: now[bound] - before.get(bound, 0) for bound in now})


def quantile(q: float, buckets: dict[float, float]) -> float | None:
    """The value that a share `q` of all is up to, as if those of a bucket were spread evenly.

    `buckets` has how many values are up to each bound, the last of which is infinite.
    """
    ordered = sorted(buckets.items())
    total = ordered[-1][1] if ordered else 0
    if total <= 0:
        return None
    rank = q * total
    for (low, below), (high, up_to) in pairwise([(0.0, 0.0), *ordered]):
        if up_to >= rank and up_to > below:
            if high == float("inf"):
                return low
            return low + (high - low) * (rank - below) / (up_to - below)
    return None


def scrape(url: str) -> Scrape:
    """Asks a process.

    Raises:
        OSError, HTTPException: it does not answer.
        ValueError: what it answers are no metrics.
    """
    # Processes are neighbours, whatever proxy the environment names.
    with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S) as response:
        text = response.read().decode()
    families = text_string_to_metric_families(text)
    return Scrape(tuple(sample for family in families for sample in family.samples))
