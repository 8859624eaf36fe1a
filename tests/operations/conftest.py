"""A served process whose numbers are looked at before and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import grpc
import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bench.server import Target
from rapport.cli.scrape import Interval, Scrape, scrape
from rapport.common.tls import Reloaded, TlsFiles
from rapport.gateway.metrics import GatewayMetrics
from rapport.service.lifecycle import Lifecycle
from rapport.service.metrics.service import ServiceMetrics
from tests.certificates import Authority
from tests.contract.callers import Grpc, Rest
from tests.operations.asking import ask_all
from tests.plain_http import NO_CERTIFICATES


@pytest.fixture(scope="session")
def rest(server: Target) -> Iterator[Rest]:
    with httpx.Client(
        base_url=str(server.rest), timeout=60, trust_env=False, verify=NO_CERTIFICATES
    ) as http:
        yield Rest(http)


@pytest.fixture(scope="session")
def rpc(server: Target) -> Iterator[Grpc]:
    with grpc.insecure_channel(str(server.grpc)) as channel:
        yield Grpc(channel)


class Meter:
    """What one process has counted since the meter was created."""

    def __init__(self, url: str | None) -> None:
        assert url is not None
        self._url = url
        self._before = scrape(url)

    def read(self) -> Interval:
        return Interval.between(self._before, scrape(self._url))

    def gain(self, name: str, **labels: str) -> float:
        return self.read().gain(name, **labels)

    def wait_for_gain(self, gain: float, name: str, **labels: str) -> None:
        """Waits for what is counted a moment after a caller has its answer."""
        wait_until(lambda: self.gain(name, **labels) == gain, f"{name}{labels} to gain {gain:g}")

    def wait_for_total(self, total: float, name: str, **labels: str) -> None:
        """Waits for a gauge that the engine sets a step after a caller has left."""
        wait_until(
            lambda: self.read().now.total(name, **labels) == total, f"{name}{labels} = {total:g}"
        )


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def service(server: Target) -> Meter:
    return Meter(server.service_metrics)


@pytest.fixture
def gateway(server: Target) -> Meter:
    return Meter(server.gateway_metrics)


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> list[Metric]:
    """What parts with certificates tell of them; the served process has none."""
    certificate = Reloaded(Authority(tmp_path_factory.mktemp("tls")).issue("a"), TlsFiles.read)
    collected: list[Metric] = []
    for part in (ServiceMetrics(Lifecycle()), GatewayMetrics()):
        part.certificates.add("a", certificate)
        collected += part.certificates.collect()
    return collected


@pytest.fixture(scope="session")
def scrapes(server: Target, rest: Rest, certified: list[Metric]) -> tuple[Scrape, ...]:
    """Of service and gateway, after requests of all kinds: every metric has its labels by then."""
    ask_all(rest)
    service, gateway = str(server.service_metrics), str(server.gateway_metrics)
    # Both count a caller that left once they notice, which is after the caller went on.
    wait_until(
        lambda: (
            scrape(service).total("requests_total", code="CANCELLED") > 0
            and scrape(service).total("ended_requests_total", outcome="cancelled") > 0
            and scrape(gateway).total("gateway_disconnects_total") > 0
        ),
        "the caller that left to be counted",
    )
    samples = tuple(sample for family in certified for sample in family.samples)
    return scrape(service), scrape(gateway), Scrape(samples)


@dataclass(frozen=True, slots=True)
class Family:
    """What a scrape says of a metric."""

    type: str
    labels: set[str]
    help: str


@pytest.fixture(scope="session")
def families(
    server: Target, scrapes: tuple[Scrape, ...], certified: list[Metric]
) -> dict[str, Family]:
    """Rapport's metrics by their names."""
    del scrapes
    urls = (server.service_metrics, server.gateway_metrics)
    texts = (httpx.get(str(url), trust_env=False, verify=NO_CERTIFICATES).text for url in urls)
    found: dict[str, Family] = {}
    for family in (*chain(*map(text_string_to_metric_families, texts)), *certified):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.startswith("rapport_"):
            labels = {label for sample in family.samples for label in sample.labels}
            found[name] = Family(family.type, labels - {"le"}, family.documentation)
    return found
