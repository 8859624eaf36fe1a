"""Server-sent events: batches and keep-alive comments."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from gateway import sse
from tests.gateway.conftest import Serve


class Stream:
    """A stream of these messages, of which an error is raised."""

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)
        self.reads = 0

    async def read(self) -> Any:
        self.reads += 1
        await asyncio.sleep(0)
        message = self._messages.pop(0) if self._messages else grpc.aio.EOF
        if isinstance(message, Exception):
            raise message
        return message


async def gather(stream: Any, first: Any) -> list[list[bytes]]:
    return [batch async for batch in sse.batches(stream, first, keepalive=None)]


async def gather_into(taken: list[bytes], stream: Any, first: Any) -> None:
    async for batch in sse.batches(stream, first, keepalive=None):
        taken += batch


def test_event() -> None:
    """An event is a line of data and an empty line."""
    assert sse.event(b"{}") == b"data: {}\n\n"


async def test_all_messages_come_in_order() -> None:
    """Every message is in a batch, none is empty, and the end is clean."""
    batches = await gather(Stream(b"2", b"3"), b"1")
    assert [message for batch in batches for message in batch] == [b"1", b"2", b"3"]
    assert all(batches)
    assert await gather(Stream(), grpc.aio.EOF) == []


async def test_waiting_messages_come_together() -> None:
    """What came while the consumer was busy is one batch."""
    messages = [b"%d" % number for number in range(10)]
    taken = []
    async for batch in sse.batches(Stream(*messages[1:]), messages[0], keepalive=None):  # type: ignore[arg-type]
        taken.append(batch)
        await asyncio.sleep(0.01)
    assert taken == [[b"0"], messages[1:]]


async def test_reading_ahead_is_bounded() -> None:
    """A consumer that is busy lets only so many messages wait."""
    stream = Stream(*[b"x"] * 1000)
    async for _ in sse.batches(stream, b"x", keepalive=None):  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert stream.reads <= sse.QUEUE_LIMIT + 3
        break


async def test_messages_before_a_failure_come() -> None:
    """A failure is raised after the messages that came before it."""
    failure = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata()
    )
    taken: list[bytes] = []
    with pytest.raises(grpc.aio.AioRpcError):
        await gather_into(taken, Stream(b"2", failure), b"1")
    assert taken == [b"1", b"2"]


async def test_keepalive(serve: Serve) -> None:
    """With sse_keepalive, silence in a stream is broken by comments."""
    body = {"stream": True, "count": 2, "pause_ms": 250}
    async with serve(sse_keepalive=0.1) as client:
        text = (await client.post("/v1/tell", json=body)).text
    assert text.count(": keepalive\n\n") >= 2
    assert text.count("data: ") == 3
