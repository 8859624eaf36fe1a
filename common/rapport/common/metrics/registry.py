"""What the metrics of every process begin with."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# Prometheus finds restarts by counters that fall; a time of creation for each doubles a scrape.
disable_created_metrics()  # type: ignore[no-untyped-call]


def new_registry(part: str) -> CollectorRegistry:
    """A registry with the process's memory, CPU and files, and its part and version."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    build = Gauge(
        "rapport_build_info", "What runs; always 1.", ["part", "version"], registry=registry
    )
    build.labels(part, version("rapport-server")).set(1)
    return registry
