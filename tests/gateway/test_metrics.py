"""The gateway's metrics: exchanges, and the connection to a real service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from bench.server import free_ports
from rapport.gateway.http1.body_budget import BodyBudget
from rapport.gateway.metrics import GatewayMetrics
from tests.gateway.conftest import Serve
from tests.gateway.library import Library, serving
from tests.gateway.peers import FakePeer, exchange

READY = {"state": "ready"}
QUICK = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics()


def value(metrics: GatewayMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"rapport_gateway_{name}", labels)


async def until(metrics: GatewayMetrics, expected: float, name: str, **labels: str) -> None:
    async with asyncio.timeout(10):
        while value(metrics, name, **labels) != expected:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


@asynccontextmanager
async def followed(metrics: GatewayMetrics, port: int) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", QUICK) as channel:
        following = asyncio.create_task(metrics.follow(channel))
        yield channel
        following.cancel()
        await asyncio.wait([following])


async def test_bytes_and_times(metrics: GatewayMetrics) -> None:
    """Bodies are counted in bytes, an answer in pieces by all of them."""
    one = exchange(FakePeer([b"12345", b""]))
    with metrics.watch(one):
        assert value(metrics, "requests_in_flight") == 1
        one.route = "/v1/{x}"
        with BodyBudget(100).hold(one.refuse_body) as held:
            await one.body(100, held)
        await one.start(200, {})
        await one.write(b"123")
        await one.finish(b"4567")
    labels = {"route": "/v1/{x}"}
    assert value(metrics, "requests_in_flight") == 0
    assert value(metrics, "requests_total", method="POST", status="200", **labels) == 1
    assert value(metrics, "received_bytes_total", **labels) == 5
    assert value(metrics, "sent_bytes_total", **labels) == 7
    first = value(metrics, "time_to_first_byte_seconds_sum", **labels)
    whole = value(metrics, "request_duration_seconds_sum", **labels)
    assert first is not None
    assert whole is not None
    assert 0 < first < whole
    assert value(metrics, "disconnects_total", **labels) is None


@pytest.mark.parametrize("method", ["PROPFIND", "x" * 1000])
async def test_made_up_verbs(metrics: GatewayMetrics, method: str) -> None:
    """A verb that is none of HTTP's makes no label of its own."""
    with metrics.watch(exchange(method=method)):
        pass
    labels = {"method": "other", "route": "other", "status": "None"}
    assert value(metrics, "requests_total", **labels) == 1


async def test_a_fault_leaves_nothing_in_flight(metrics: GatewayMetrics) -> None:
    """Whatever happens in an exchange, it ends and is counted."""
    with pytest.raises(asyncio.CancelledError), metrics.watch(exchange()):
        raise asyncio.CancelledError
    assert value(metrics, "requests_in_flight") == 0
    assert value(metrics, "request_duration_seconds_count", route="other") == 1


async def test_stuck_readers(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, metrics: GatewayMetrics
) -> None:
    """A client that is cut for reading nothing is counted; one that leaves is not."""
    monkeypatch.setattr("rapport.gateway.app.GatewayMetrics", lambda: metrics)
    body = json.dumps({"stream": True, "count": 100_000, "size": 10_000})
    head = {"content-type": "application/json"}
    async with serve(reader_timeout=0.3) as client:
        async with client.stream("POST", "/v1/tell", content=body, headers=head) as leaving:
            await anext(leaving.aiter_bytes())
        await until(metrics, 1, "requests_total", route="/v1/tell", method="POST", status="499")
        assert value(metrics, "stuck_readers_total") == 0
        async with client.stream("POST", "/v1/tell", content=body, headers=head):
            await until(metrics, 1, "stuck_readers_total")


async def test_connection(metrics: GatewayMetrics) -> None:
    """A service that goes is reported, and each connection is counted."""
    (port,) = free_ports(1)
    async with followed(metrics, port) as channel:
        for connects in (1, 2):
            async with serving(Library(), port):
                channel.get_state(try_to_connect=True)
                await until(metrics, 1, "upstream_state", **READY)
                assert value(metrics, "upstream_connects_total") == connects
            await until(metrics, 0, "upstream_state", **READY)


async def test_no_service(metrics: GatewayMetrics) -> None:
    """Where nothing listens exactly one state is reported, and it is not READY."""
    (port,) = free_ports(1)
    async with followed(metrics, port) as channel:
        channel.get_state(try_to_connect=True)
        await until(metrics, 1, "upstream_state", state="transient_failure")
        states = [each.name.lower() for each in grpc.ChannelConnectivity]
        assert sum(value(metrics, "upstream_state", state=each) or 0 for each in states) == 1
        assert value(metrics, "upstream_connects_total") == 0
