"""Clients that do little but count: most of two cores is left to what is measured."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from bench.errors import RequestFailedError
from bench.server import host_and_port
from rapport.v1.chat_pb2 import StreamChatCompletionResponse

PATH = "/v1/chat/completions"
METHOD = "/rapport.v1.ChatService/StreamChatCompletion"
# Longer than the last events of a stream, which tell of its usage.
END = 4096
_USAGE = re.compile(rb'"completion_tokens":(\d+)')


@dataclass(slots=True)
class Received:
    """What came of one stream."""

    tokens: int = 0
    messages: int = 0


class EventCounter(asyncio.Protocol):
    """Counts a response's events. `ended` is done when the last has come or the server left."""

    def __init__(self) -> None:
        self.messages = 0
        self.end = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        # What the last five bytes held back could have begun is counted with the next.
        self.messages += (self.end[-5:] + data).count(b"data: ")
        self.end = (self.end + data)[-END:]
        if self.end.endswith(b"0\r\n\r\n"):
            self._stop()

    def connection_lost(self, _: Exception | None) -> None:
        self._stop()

    def _stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def receive_events(url: str, body: bytes) -> Received:
    """Streams one answer over REST.

    Raises:
        RequestFailedError: it is not whole.
    """
    counter = EventCounter()
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: counter, *host_and_port(url)
    )
    transport.write(http_request(body))
    await counter.ended
    transport.abort()
    usage = _USAGE.search(counter.end)
    if usage is None or b"data: [DONE]" not in counter.end:
        raise RequestFailedError("stream cut off")
    return Received(int(usage[1]), counter.messages)


def http_request(body: bytes) -> bytes:
    """The bytes of a request on a connection of its own."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def receive_messages(channel: grpc.aio.Channel, request: bytes) -> Received:
    """Streams one answer over gRPC.

    Raises:
        RequestFailedError: it is not whole.
    """
    rpc: Any = channel.unary_stream(METHOD)
    received, last = Received(), b""
    try:
        async for message in rpc(request):
            received.messages += 1
            last = message
    except grpc.aio.AioRpcError as error:
        raise RequestFailedError(error.code().name) from error
    received.tokens = StreamChatCompletionResponse.FromString(last).usage.completion_tokens
    return received


@asynccontextmanager
async def stuck(url: str, body: bytes) -> AsyncIterator[None]:
    """A REST client that sends a request and never reads the answer."""
    _, writer = await asyncio.open_connection(*host_and_port(url))
    writer.write(http_request(body))
    # What the client's own loop takes ahead must not count as read.
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        writer.transport.abort()
