"""Health, asked and watched at a real server."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.lifecycle import Lifecycle
from rapport.service.server import MAX_WATCHES_PER_CONNECTION
from tests.fuzz import http2
from tests.service.fakes import ScriptedEngine, served
from tests.service.requests import health

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN
READER_TIMEOUT_S = 0.3


@pytest.fixture
def settings() -> ServiceSettings:
    flags = ["--grpc-port", "0", "--read-timeout", "0.3"]
    return load(ServiceSettings, [*flags, "--reader-timeout", str(READER_TIMEOUT_S)])


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return HealthStub(channel)  # its types know no asyncio


def watched(stub: Any, name: str = "") -> Any:
    return stub.Watch(HealthCheckRequest(service=name))


async def is_answered(stub: Any) -> bool:
    """Whether a new watch is sent a status."""
    with suppress(grpc.aio.AioRpcError):
        return await watched(stub).read() is not grpc.aio.EOF
    return False


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    """The code and the text that a call ends with."""
    return await call.code(), await call.details()


class TestCheck:
    async def test_unknown_name(self, stub: Any) -> None:
        """A name that is not known is not found, however long it is."""
        for name in ("nothing", "x" * 100_000):
            call = stub.Check(HealthCheckRequest(service=name))
            assert await ended(call) == (grpc.StatusCode.NOT_FOUND, "")

    async def test_list(self, stub: Any) -> None:
        """All names are listed with their statuses."""
        listed = (await stub.List(health_pb2.HealthListRequest())).statuses  # type: ignore[attr-defined]
        assert {name: each.status for name, each in listed.items()} == {
            "": NOT_SERVING,
            "rapport.v1.ChatService": NOT_SERVING,
            "rapport.v1.CompletionService": NOT_SERVING,
            "rapport.v1.ModelService": NOT_SERVING,
            "liveness": SERVING,
        }


class TestWatch:
    async def test_unknown_name(
        self, channel: grpc.aio.Channel, stub: Any, lifecycle: Lifecycle
    ) -> None:
        """A name that is not known is watched as such, and its watch goes on."""
        watch = watched(stub, "x" * 100_000)
        assert (await watch.read()).status == UNKNOWN
        lifecycle.start_serving(served(ScriptedEngine()))
        following = asyncio.create_task(watch.read())
        assert await health(channel) == SERVING
        assert not following.done()
        following.cancel()

    async def test_close(self, stub: Any, lifecycle: Lifecycle) -> None:
        """Watches end with the service, those that begin then as well."""
        watch = watched(stub)
        await watch.read()
        lifecycle.health.close()
        expected = grpc.StatusCode.UNAVAILABLE, "The server is shutting down"
        assert await ended(watch) == expected
        assert await ended(watched(stub)) == expected

    async def test_others_are_not_waited_for(
        self, address: str, channel: grpc.aio.Channel, stub: Any, lifecycle: Lifecycle
    ) -> None:
        """A caller that does not read delays neither the change nor those who hear of it."""
        with http2.connect(address) as stuck:
            stuck.sendall(http2.opening(0) + http2.request(1, WATCH))
            watch = watched(stub)
            assert (await watch.read()).status == NOT_SERVING
            lifecycle.start_serving(served(ScriptedEngine()))
            assert await health(channel) == SERVING
            assert (await watch.read()).status == SERVING

    async def test_slow_reader(
        self, address: str, stub: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A caller that does not read its status in time is given up; one without news is not."""
        caplog.set_level(logging.INFO)
        watch = watched(stub)
        await watch.read()
        with http2.connect(address) as stuck:
            stuck.sendall(http2.opening(0) + http2.request(1, WATCH))
            async with asyncio.timeout(30):
                while "is aborted: the client read nothing" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0.01)
        assert caplog.text.count("is aborted") == 1
        assert not watch.done()

    async def test_newest_status(self, stub: Any, lifecycle: Lifecycle) -> None:
        """Who does not follow each change is sent the newest one."""
        watch = watched(stub)
        await watch.read()
        lifecycle.start_serving(served(ScriptedEngine()))
        lifecycle.mark_dead()
        lifecycle.health.set(SERVING, "")
        assert (await watch.read()).status == SERVING

    async def test_places(self, address: str, stub: Any) -> None:
        """A connection has so many watches at once; those of others are not affected."""
        watches = [watched(stub) for _ in range(MAX_WATCHES_PER_CONNECTION)]
        for watch in watches:
            await watch.read()
        code, text = await ended(watched(stub))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text == f"the connection has {MAX_WATCHES_PER_CONNECTION} calls of Watch under way"
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as b:
            assert (await watched(HealthStub(b)).read()).status == NOT_SERVING
        watches.pop().cancel()
        async with asyncio.timeout(30):
            while not await is_answered(stub):
                pass


class TestJunk:
    @pytest.mark.parametrize("path", [CHECK, WATCH])
    async def test_no_message(
        self, channel: grpc.aio.Channel, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Bytes that are no message are the caller's mistake; the log has one line for them all."""
        caplog.set_level(logging.INFO)
        for _ in range(20):
            call = channel.unary_stream(path)(b"\xff\xff")
            code, text = await ended(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert text == "The request is not the message that the RPC takes"
        assert 0 < caplog.text.count("UNREADABLE") < 20
        assert "Traceback" not in caplog.text

    async def test_no_request(self, channel: grpc.aio.Channel) -> None:
        """A call is not kept for a request that does not come."""
        call = channel.stream_stream(CHECK)()
        code, text = await ended(call)
        assert code is grpc.StatusCode.CANCELLED
        assert text == "The request did not come within 0.3 s"
