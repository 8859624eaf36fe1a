"""The metrics of the service."""

from __future__ import annotations

from rapport.common.metrics.certificates import Certificates
from rapport.common.metrics.registry import new_registry
from rapport.service.lifecycle import Lifecycle
from rapport.service.metrics.engine import EngineCollector
from rapport.service.metrics.requests import RequestMetrics


class ServiceMetrics:
    """All metrics of one service. `observe` is called with each RPC that has ended."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.registry = new_registry("service")
        self.registry.register(EngineCollector(lifecycle))
        self.certificates = Certificates("rapport")
        self.registry.register(self.certificates)
        self.observe = RequestMetrics(self.registry).observe
