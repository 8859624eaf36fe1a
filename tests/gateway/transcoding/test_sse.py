"""Server-sent events: messages and keep-alive comments."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from rapport.gateway.transcoding import sse
from tests.gateway.conftest import Serve


class Stream:
    """A stream of these messages, each after a pause; one that is an error is raised."""

    def __init__(self, *messages: Any, pause: float = 0) -> None:
        self._messages = list(messages)
        self._pause = pause
        self.reads = 0
        self.cancelled = False

    async def read(self) -> Any:
        self.reads += 1
        try:
            await asyncio.sleep(self._pause)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        message = self._messages.pop(0) if self._messages else grpc.aio.EOF
        if isinstance(message, Exception):
            raise message
        return message


async def gather(stream: Any, first: Any, *, keepalive: float | None = None) -> list[Any]:
    return [message async for message in sse.messages(stream, first, keepalive=keepalive)]


async def gather_into(taken: list[Any], stream: Any, first: Any, keepalive: float | None) -> None:
    async for message in sse.messages(stream, first, keepalive=keepalive):
        taken.append(message)  # noqa: PERF401 - what came before an error is to be kept


def test_event() -> None:
    """An event is a line of data and an empty line."""
    assert sse.event(b"{}") == b"data: {}\n\n"


@pytest.mark.parametrize("keepalive", [None, 10])
async def test_all_messages_come_in_order(keepalive: float | None) -> None:
    """Every message comes, and the end is clean."""
    assert await gather(Stream(b"2", b"3"), b"1", keepalive=keepalive) == [b"1", b"2", b"3"]
    assert await gather(Stream(), grpc.aio.EOF, keepalive=keepalive) == []


async def test_nothing_is_read_ahead() -> None:
    """While a consumer is busy nothing is read, so that flow control holds the sender back."""
    stream: Any = Stream(*[b"x"] * 10)
    async for _ in sse.messages(stream, b"x", keepalive=None):
        reads = stream.reads
        await asyncio.sleep(0.01)
        assert stream.reads == reads


@pytest.mark.parametrize("keepalive", [None, 10])
async def test_messages_before_a_failure_come(keepalive: float | None) -> None:
    """A failure is raised after the messages that came before it."""
    failure = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata()
    )
    taken: list[Any] = []
    with pytest.raises(grpc.aio.AioRpcError):
        await gather_into(taken, Stream(b"2", failure), b"1", keepalive)
    assert taken == [b"1", b"2"]


async def test_silence_loses_no_message() -> None:
    """What comes after a None is the message that was waited for."""
    stream: Any = Stream(b"2", pause=0.05)
    received = await gather(stream, b"1", keepalive=0.02)
    assert [message for message in received if message is not None] == [b"1", b"2"]
    assert None in received


async def test_a_reader_that_leaves_ends_its_read() -> None:
    """A read that is under way does not outlive the reader."""
    stream: Any = Stream(b"2", pause=60)
    async with aclosing(sse.messages(stream, b"1", keepalive=0.01)) as messages:
        assert [await anext(messages), await anext(messages)] == [b"1", None]
    await asyncio.sleep(0)
    assert stream.cancelled


async def test_keepalive(serve: Serve) -> None:
    """With sse_keepalive, silence in a stream is broken by comments."""
    body = {"stream": True, "count": 2, "pause_ms": 250}
    async with serve(sse_keepalive=0.1) as client:
        text = (await client.post("/v1/tell", json=body)).text
    assert text.count(": keepalive\n\n") >= 2
    assert text.count("data: ") == 3
