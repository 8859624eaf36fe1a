"""Requests that come late, broken or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.errors import RequestMissingError
from rapport.service.interceptors import read
from rapport.service.interceptors.read import MessageReader
from tests.contract.callers import unpacked
from tests.service.requests import health

CREATE = "/rapport.v1.ChatService/CreateChatCompletion"
STREAM = "/rapport.v1.ChatService/StreamChatCompletion"


async def nothing() -> AsyncIterator[bytes]:
    for _ in ():
        yield b""


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def one(message: bytes) -> AsyncIterator[bytes]:
    yield message


async def ended(channel: grpc.aio.Channel, path: str, sent: AsyncIterator[bytes]) -> str:
    """The code and the text that a call ends with."""
    call = channel.stream_stream(path)(sent)
    return f"{(await call.code()).name}: {await call.details()}"


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("path", [CREATE, STREAM])
class TestReading:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return load(ServiceSettings, ["--grpc-port", "0", "--read-timeout", "0.2"])

    async def test_request_that_never_comes(self, channel: grpc.aio.Channel, path: str) -> None:
        """A call is not kept for a request that does not come."""
        outcome = await ended(channel, path, never())
        assert outcome == "CANCELLED: The request did not come within 0.2 s"

    async def test_no_request(self, channel: grpc.aio.Channel, path: str) -> None:
        """A call that is closed without one is told so."""
        outcome = await ended(channel, path, nothing())
        assert outcome == "CANCELLED: The call ended without a request"

    async def test_no_message(self, channel: grpc.aio.Channel, path: str) -> None:
        """Bytes that are no message are the caller's mistake."""
        outcome = await ended(channel, path, one(b"\xff\xff"))
        assert outcome.startswith("INVALID_ARGUMENT: The request is not the message")


@pytest.mark.usefixtures("engine")
class TestStrangers:
    @pytest.fixture
    def settings(self, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
        monkeypatch.setenv("RAPPORT_API_KEYS", "k")
        return load(ServiceSettings, ["--grpc-port", "0", "--slots", "1", "--max-waiting", "0"])

    async def test_do_not_keep_others_out(self, channel: grpc.aio.Channel) -> None:
        """Calls without a key are refused before their requests come, and take no place."""
        outcome = await asyncio.gather(*(ended(channel, CREATE, never()) for _ in range(300)))
        assert {text.partition(":")[0] for text in outcome} == {"UNAUTHENTICATED"}


@pytest.mark.usefixtures("engine")
class TestManyCalls:
    @pytest.fixture
    def settings(self, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
        monkeypatch.setattr("rapport.service.server.SPARE_RPCS", 1)
        return load(ServiceSettings, ["--grpc-port", "0", "--slots", "1", "--max-waiting", "0"])

    async def test_beyond_the_limit(self, channel: grpc.aio.Channel) -> None:
        """Beyond so many calls others are refused, probes are not, and places come free."""
        # More than the two places: a call that looks may have one while some of these arrive.
        held = [channel.stream_stream(CREATE)(never()) for _ in range(10)]
        async with asyncio.timeout(10):
            while not (outcome := await ended(channel, CREATE, nothing())).startswith("RESOURCE"):  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
        assert outcome == "RESOURCE_EXHAUSTED: too many requests are under way"
        assert await health(channel)
        for call in held:
            call.cancel()
        async with asyncio.timeout(10):
            while (await ended(channel, CREATE, nothing())).startswith("RESOURCE"):  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("path", [CREATE, STREAM])
async def test_no_message(channel: grpc.aio.Channel, path: str) -> None:
    """Bytes that are no message are the caller's mistake."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_stream(path)(b"\x0a\xff\xff").read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "The request is not the message that the RPC takes"
    assert unpacked(raised.value)[0].reason == "UNREADABLE"


async def test_too_many_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many requests are incomplete, the one that waits the longest is given up."""
    monkeypatch.setattr(read, "MIN_WAIT_S", -1.0)
    rpc: Any = SimpleNamespace(read=asyncio.Event().wait)
    reader = MessageReader(60, max_incomplete=2)
    first, second, third = (asyncio.create_task(reader.read(rpc)) for _ in range(3))
    with pytest.raises(RequestMissingError, match="Too many requests are incomplete"):
        await first
    assert not second.done()
    assert not third.done()
    for task in (second, third):
        task.cancel()


async def test_a_key_gives_up_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are incomplete of one key, those of another are read."""
    monkeypatch.setattr(read, "MIN_WAIT_S", -1.0)
    rpc: Any = SimpleNamespace(read=asyncio.Event().wait)
    reader = MessageReader(60, max_incomplete=2)
    other, first, *rest = (asyncio.create_task(reader.read(rpc, key)) for key in "abbb")
    with pytest.raises(RequestMissingError, match="Too many requests are incomplete"):
        await first
    assert not any(task.done() for task in (other, *rest))
    for task in (other, *rest):
        task.cancel()


async def test_requests_that_come_are_not_given_up() -> None:
    """Many that come at once are all read."""
    came = asyncio.Event()
    rpc: Any = SimpleNamespace(read=came.wait)
    reader = MessageReader(60, max_incomplete=2)
    reads = [asyncio.create_task(reader.read(rpc)) for _ in range(100)]
    await asyncio.sleep(0)
    came.set()
    assert all(await asyncio.gather(*reads))
