from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from rapport.common.addresses import local_addresses
from rapport.common.metrics.certificates import Certificates
from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.interceptors.context import RequestContext
from rapport.service.lifecycle import Lifecycle
from rapport.service.server import PortTakenError, Server
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.fuzz import http2
from tests.service.fakes import ScriptedEngine, ends
from tests.service.requests import chat, health

MAX_CONNECTIONS = 5
CALLING = 4
CALLS = [
    http2.OPENING,
    *(http2.request(stream, http2.CHAT, b"junk") for stream in range(1, 1000, 2)),
]
needs_ipv6 = pytest.mark.skipif(
    "::1" not in local_addresses("localhost"), reason="this machine has no IPv6"
)
# For a new connection on the busiest machine.
SOON_S = 30


async def test_port_in_use(address: str, lifecycle: Lifecycle) -> None:
    """A second server on the same port is refused in one line, not let share it."""
    settings = load(ServiceSettings, ["--grpc-port", address.rpartition(":")[2]])
    with pytest.raises(PortTakenError, match=f"cannot listen on {address}: is it in use?"):
        await Server(settings, lifecycle).listen(Certificates("rapport"))


@needs_ipv6
@pytest.mark.parametrize("host", ["localhost", "::"])
async def test_both_families(host: str, lifecycle: Lifecycle) -> None:
    """A name and `::` are served over IPv4 and IPv6."""
    flags = ["--grpc-host", host, "--grpc-port", "0", "--allow-public-bind"]
    server = Server(load(ServiceSettings, flags), lifecycle)
    port = await server.listen(Certificates("rapport"))
    for address in ("127.0.0.1", "::1"):
        socket.create_connection((address, port), timeout=5).close()
    await server.stop(None)


@needs_ipv6
async def test_one_address_in_use(lifecycle: Lifecycle) -> None:
    """Where one address of a name is taken, none is served: some callers would reach another."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        flags = ["--grpc-host", "localhost", "--grpc-port", str(taken.getsockname()[1])]
        with pytest.raises(PortTakenError, match="cannot listen on localhost:"):
            await Server(load(ServiceSettings, flags), lifecycle).listen(Certificates("rapport"))


async def test_metadata(tmp_path: Path, lifecycle: Lifecycle, engine: ScriptedEngine) -> None:
    """At the address as much as callers need; at the socket what the gateway takes of a head."""
    path = tmp_path / "socket"
    settings = load(ServiceSettings, ["--grpc-port", "0", "--grpc-socket", str(path)])
    server = Server(settings, lifecycle)
    port = await server.listen(Certificates("rapport"))
    engine.script = [ends(0)]
    for target, size in ((f"127.0.0.1:{port}", 15_000), (f"unix:{path}", 60_000)):
        async with grpc.aio.insecure_channel(target) as channel:
            call = ChatServiceStub(channel).CreateChatCompletion
            await call(chat("Hi"), metadata=[("x-long", "x" * size)])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = ChatServiceStub(channel).CreateChatCompletion
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(chat("Hi"), metadata=[("x-long", "x" * 30_000)])
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await server.stop(None)


async def test_calls_of_many_connections_wait(
    address: str, channel: grpc.aio.Channel, engine: ScriptedEngine
) -> None:
    """Behind thousands of calls that others have begun, one more is not dropped."""
    await channel.channel_ready()
    engine.script = [ends(0)]
    with ExitStack() as opened:
        for _ in range(CALLING):
            peer = opened.enter_context(http2.connect(address))
            # The event loop stands still meanwhile, so these come first.
            peer.sendall(b"".join(CALLS))
            assert peer.recv(1)
        await ChatServiceStub(channel).CreateChatCompletion(chat("Hi"))


async def test_the_socket_waits_for_nobody_at_the_address(
    tmp_path: Path, lifecycle: Lifecycle, engine: ScriptedEngine
) -> None:
    """Calls that others begin by the thousand do not stand before one at the socket."""
    path, done = tmp_path / "socket", Counter[bool]()
    settings = load(ServiceSettings, ["--grpc-port", "0", "--grpc-socket", str(path)])

    def observe(context: RequestContext) -> None:
        done[context.code is grpc.StatusCode.OK] += 1

    server = Server(settings, lifecycle, observe)
    port = await server.listen(Certificates("rapport"))
    engine.script = [ends(0)]
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        await channel.channel_ready()
        with ExitStack() as opened:
            for _ in range(CALLING):
                peer = opened.enter_context(http2.connect(f"127.0.0.1:{port}"))
                # The event loop stands still meanwhile, so these come first.
                peer.sendall(b"".join(CALLS))
                assert peer.recv(1)
            await ChatServiceStub(channel).CreateChatCompletion(chat("Hi"))
            before = done[False]
    await server.stop(None)
    assert done[True] == 1
    assert before < CALLING * len(CALLS) / 4


class TestConnections:
    @pytest.fixture(autouse=True)
    def limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rapport.service.server.max_connections", lambda: MAX_CONNECTIONS)

    async def test_too_many(self, address: str, engine: ScriptedEngine) -> None:
        """Connections over the limit are closed at once; when others close there is room again."""
        del engine
        with ExitStack() as opened:
            peers = [opened.enter_context(http2.connect(address)) for _ in range(MAX_CONNECTIONS)]
            for peer in peers:
                peer.sendall(http2.OPENING)
                assert await asyncio.to_thread(peer.recv, 1)
            extra = opened.enter_context(http2.connect(address))
            assert await asyncio.to_thread(is_closed, extra)
        async with grpc.aio.insecure_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), SOON_S)
            assert await health(channel) == HealthCheckResponse.SERVING


def is_closed(peer: socket.socket) -> bool:
    try:
        return not peer.recv(1)
    except ConnectionResetError:
        return True


class TestLargeLimit:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return load(ServiceSettings, ["--grpc-port", "0", "--max-message-bytes", "8MiB"])

    async def test_long(self, channel: grpc.aio.Channel, engine: ScriptedEngine) -> None:
        """A message within the limit is read, also beyond gRPC's usual 4 MiB."""
        engine.script = [ends(0)]
        await ChatServiceStub(channel).CreateChatCompletion(chat("x" * (5 << 20)))


class TestSmallLimit:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return load(ServiceSettings, ["--grpc-port", "0", "--max-message-bytes", "1000"])

    async def test_too_long(self, channel: grpc.aio.Channel, engine: ScriptedEngine) -> None:
        """A message over the limit is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ChatServiceStub(channel).CreateChatCompletion(chat("x" * 1000))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert engine.requests == []
