"""Certificates of the upstream that change: another channel, and what becomes of the one before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from rapport.gateway.config import GatewaySettings
from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.metrics import GatewayMetrics
from rapport.gateway.upstream.upstream import Follow, Upstream
from rapport.service.rpc.credentials import server_certificate, server_credentials
from tests.certificates import Authority
from tests.gateway.library import SERVICE, Library, message, serving

RENEWALS = 4
# Turns of the event loop after a renewal, up to where both channels are at rest.
TURNS = 60
STREAMS = 3


class Followers:
    """Who looks on at each channel, as the metrics do."""

    def __init__(self) -> None:
        self.channels: list[grpc.aio.Channel] = []
        self.cancelled: list[grpc.aio.Channel] = []

    async def follow(self, channel: grpc.aio.Channel) -> None:
        self.channels.append(channel)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.append(channel)
            raise


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rapport.gateway.upstream.upstream.RENEW_S", 0.01)


@pytest.fixture
async def port(library: Library, ca: Authority) -> AsyncIterator[int]:
    shown = server_credentials(server_certificate(ca.issue("service")))
    async with serving(library, credentials=shown) as port:
        yield port


@asynccontextmanager
async def upstream(port: int, ca: Authority, follow: Follow) -> AsyncIterator[Upstream]:
    """It has started, and leaves no task behind when it is closed."""
    settings = GatewaySettings(upstream=f"127.0.0.1:{port}", upstream_ca=ca.path)
    made = Upstream(settings, follow, FIREWORKS)
    made.start()
    try:
        yield made
    finally:
        await asyncio.wait_for(made.close(), 5)
        assert not under_way()


def under_way() -> list[str]:
    """The tasks of an upstream. Others in the event loop are the service's."""
    ours = ("Upstream.", "Channel.close", "Followers.", "Metrics.")
    coroutines = (task.get_coro() for task in asyncio.all_tasks())
    names = [getattr(coroutine, "__qualname__", "") for coroutine in coroutines]
    return [name for name in names if name.startswith(ours)]


async def renewed(made: Upstream, ca: Authority) -> None:
    """Changes the file of CAs and waits for the channel that comes of it."""
    old = made.channel
    ca.path.write_bytes(ca.path.read_bytes() + b"\n")
    async with asyncio.timeout(5):
        while made.channel is old:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0)


async def until_learned(made: Upstream) -> None:
    async with asyncio.timeout(10):
        while not made._learned:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


async def test_followers_go_along(port: int, ca: Authority) -> None:
    """Each new channel is looked on at, and none that is no more in use."""
    followers = Followers()
    async with upstream(port, ca, followers.follow) as made:
        channels = [made.channel]
        for _ in range(RENEWALS):
            await asyncio.sleep(0.01)
            await renewed(made, ca)
            channels.append(made.channel)
        await asyncio.sleep(0.01)
        assert followers.channels == channels
        assert followers.cancelled == channels[:-1]
    assert followers.cancelled == channels


async def test_metrics_tell_of_the_new_channel(port: int, ca: Authority) -> None:
    """Each is a connection; the end of the one before is not told as the state."""
    metrics = GatewayMetrics()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"rapport_gateway_upstream_{name}", labels)

    async with upstream(port, ca, metrics.follow) as made:
        for connects in range(1, RENEWALS + 1):
            async with asyncio.timeout(5):
                while value("connects_total") != connects:  # noqa: ASYNC110 - seen from outside
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert (value("state", state="ready"), value("state", state="shutdown")) == (1, 0)
            await renewed(made, ca)


async def test_calls_on_the_old_channel_end_in_peace(port: int, ca: Authority) -> None:
    """Then nothing is left of it; new calls go through the new one."""
    async with upstream(port, ca, Followers().follow) as made:
        await until_learned(made)
        old = made.channel
        request = message("TellRequest")(count=STREAMS, pause_ms=100)
        path = f"/{SERVICE}/StreamTell"
        raw = request.SerializeToString()
        streams = [old.unary_stream(path)(raw) for _ in range(STREAMS)]
        firsts = [await stream.read() for stream in streams]
        await renewed(made, ca)
        new = made.channel
        assert all(firsts)
        for stream in streams:
            assert len([piece async for piece in _rest(stream)]) == STREAMS - 1
            assert await stream.code() is grpc.StatusCode.OK
        async with asyncio.timeout(5):
            while old.get_state() is not grpc.ChannelConnectivity.SHUTDOWN:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
        book = await new.unary_unary(f"/{SERVICE}/GetDefaultBook")(b"")
        assert message("Book").FromString(book).title == "default"


async def _rest(stream: grpc.aio.UnaryStreamCall[bytes, bytes]) -> AsyncIterator[object]:
    while (piece := await stream.read()) is not grpc.aio.EOF:
        yield piece


async def test_closed_at_any_moment_of_a_renewal(port: int, ca: Authority) -> None:
    """With a call on the old channel or none: it ends at once, and with it all that it began."""
    request = message("TellRequest")(count=1, hang_after=0).SerializeToString()
    for turns in range(TURNS):
        async with upstream(port, ca, Followers().follow) as made:
            call = made.channel.unary_stream(f"/{SERVICE}/StreamTell")(request)
            if turns % 2:
                await until_learned(made)
            else:
                call.cancel()
            await renewed(made, ca)
            for _ in range(turns // 2):
                await asyncio.sleep(0)
        call.cancel()  # as its request does


async def test_closed_while_the_old_channel_is_learned_from(
    monkeypatch: pytest.MonkeyPatch, port: int, ca: Authority
) -> None:
    """Wherever its learning is given up, it ends with all others."""
    monkeypatch.setattr("rapport.gateway.upstream.upstream.RENEW_S", 0)
    for turns in range(TURNS):
        async with upstream(port, ca, Followers().follow) as made:
            await made.channel.channel_ready()
            for _ in range(turns):
                await asyncio.sleep(0)
            await renewed(made, ca)
