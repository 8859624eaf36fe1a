"""Server-sent events: their framing, and the messages of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
KEEPALIVE = b": keepalive\n\n"


def event(payload: bytes) -> bytes:
    """One event; the payload is JSON on a single line."""
    return b"data: " + payload + b"\n\n"


Stream = grpc.aio.UnaryStreamCall[bytes, bytes]


async def messages(
    stream: Stream, first: Any, *, keepalive: float | None
) -> AsyncGenerator[bytes | None]:
    """Yields the messages, of which `first` was read already.

    Nothing is read ahead: for a slow reader, gRPC's flow control holds messages back, and the
    service merges them into fewer, longer ones. With `keepalive`, yields None whenever no message
    came for that many seconds.

    Raises:
        AioRpcError: the stream failed.
    """
    message = first
    while message is not grpc.aio.EOF:
        yield message
        if keepalive is None:
            message = await stream.read()
            continue
        # Cancelling a read would end the call, so a wait that times out must not cancel it.
        reading = asyncio.ensure_future(stream.read())
        try:
            while not (await asyncio.wait((reading,), timeout=keepalive))[0]:
                yield None
            message = reading.result()
        finally:
            reading.cancel()
