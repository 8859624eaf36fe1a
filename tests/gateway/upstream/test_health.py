"""Requests for the health share a call, and need none of a service that served a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rapport.gateway.errors import ApiError
from rapport.gateway.upstream import health as health_module
from rapport.gateway.upstream.health import HealthCheck

SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


class Service(health_pb2_grpc.HealthServicer):
    """Answers as `status` says when it may."""

    def __init__(self) -> None:
        self.status = SERVING
        self.asked = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()

    async def Check(  # noqa: N802 - named by the proto
        self, request: health_pb2.HealthCheckRequest, context: object
    ) -> health_pb2.HealthCheckResponse:
        del request, context
        self.asked.release()
        await self.may_answer.wait()
        return health_pb2.HealthCheckResponse(status=self.status)


class WatchedService(Service):
    """Tells those who watch of its status and of one change."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    async def Watch(  # noqa: N802 - named by the proto
        self, request: health_pb2.HealthCheckRequest, context: object
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        del request, context
        yield health_pb2.HealthCheckResponse(status=self.status)
        await self.changed.wait()
        yield health_pb2.HealthCheckResponse(status=self.status)
        await asyncio.Event().wait()


@pytest.fixture
async def service() -> Service:
    return Service()


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


@pytest.fixture
async def channel(service: Service) -> AsyncIterator[grpc.aio.Channel]:
    async with connected(service) as channel:
        yield channel


async def test_one_call_for_many(service: Service, channel: grpc.aio.Channel) -> None:
    """A hundred at once ask once; those who come later ask anew."""
    health = HealthCheck()
    checks = [asyncio.create_task(health.check(channel)) for _ in range(100)]
    await service.asked.acquire()
    service.may_answer.set()
    await asyncio.gather(*checks)
    assert service.asked.locked()
    service.status = NOT_SERVING
    with pytest.raises(ApiError, match="not serving"):
        await health.check(channel)


async def test_one_that_goes_away(service: Service, channel: grpc.aio.Channel) -> None:
    """A caller that goes away ends nothing for the others."""
    health = HealthCheck()
    first, second = (asyncio.create_task(health.check(channel)) for _ in range(2))
    await service.asked.acquire()
    first.cancel()
    await asyncio.wait([first])
    service.may_answer.set()
    await second
    assert first.cancelled()


async def check_for_ever(health: HealthCheck, channel: grpc.aio.Channel) -> None:
    while True:
        await health.check(channel)
        await asyncio.sleep(0)


async def test_busy_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a service that served a moment ago, until it tells of a change."""
    monkeypatch.setattr(health_module, "FRESH_S", 1000)
    service, health = WatchedService(), HealthCheck()
    service.may_answer.set()
    async with connected(service) as channel:
        watching = asyncio.create_task(health.watch(channel))
        while not health._is_watched:  # noqa: ASYNC110 - the service's first word
            await asyncio.sleep(0)
        await health.check(channel)
        service.may_answer.clear()
        await health.check(channel)
        service.status = NOT_SERVING
        service.changed.set()
        service.may_answer.set()
        with pytest.raises(ApiError, match="not serving"):
            await check_for_ever(health, channel)
        watching.cancel()


async def test_service_that_tells_of_no_change(service: Service, channel: grpc.aio.Channel) -> None:
    """One that cannot be watched is asked each time."""
    health = HealthCheck()
    await health.watch(channel)
    service.may_answer.set()
    await health.check(channel)
    service.status = NOT_SERVING
    with pytest.raises(ApiError, match="not serving"):
        await health.check(channel)
