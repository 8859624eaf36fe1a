"""When the certificates that a process shows expire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rapport.common.tls import Reloaded


class Certificates(Collector):
    """Reads the files at each scrape, so that a new certificate counts before anybody connects."""

    def __init__(self, prefix: str) -> None:
        self._name = f"{prefix}_certificate_expiry_timestamp_seconds"
        self._watched: list[tuple[str, Reloaded[Any]]] = []

    def add(self, setting: str, certificate: Reloaded[Any]) -> None:
        """Adds the certificate that a setting names, if the files have one."""
        self._watched.append((setting, certificate))

    def collect(self) -> Iterator[Metric]:
        text = "When a certificate expires, in Unix time."
        family = GaugeMetricFamily(self._name, text, labels=["setting"])
        for setting, certificate in self._watched:
            certificate.renew()
            if certificate.expiry is not None:
                family.add_metric([setting], certificate.expiry)
        yield family
