"""Plain numbers as Prometheus has them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from rapport.service.engine.stats import Tally


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"rapport_{name}", text, value)


def counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"rapport_{name}", text, value)


def counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"rapport_{name}", text, labels=[label])
    for member, value in values.items():
        family.add_metric([member], value)
    return family


def histogram(name: str, text: str, tally: Tally) -> Metric:
    family = HistogramMetricFamily(f"rapport_{name}", text)
    _add(family, [], tally)
    return family


def histograms(name: str, text: str, label: str, tallies: Mapping[str, Tally]) -> Metric:
    family = HistogramMetricFamily(f"rapport_{name}", text, labels=[label])
    for member, tally in tallies.items():
        _add(family, [member], tally)
    return family


def _add(family: HistogramMetricFamily, labels: list[str], tally: Tally) -> None:
    bounds = [*(str(float(bound)) for bound in tally.bounds), "+Inf"]
    # A copy is made at once: the counts go on while they are summed up.
    totals = accumulate(tuple(tally.counts))
    family.add_metric(labels, list(zip(bounds, totals, strict=True)), tally.sum)
