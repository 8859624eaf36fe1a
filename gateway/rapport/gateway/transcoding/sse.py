"""Server-sent events: framing, and a stream's messages one by one."""

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
    """Yields the messages, the first of which was read already.

    Nothing is read ahead: what a slow reader leaves is held back by gRPC's flow control,
    and the service makes fewer, longer messages of it. With `keepalive`, a None says that
    nothing came for so many seconds. Raises AioRpcError if the stream fails.
    """
    message = first
    while message is not grpc.aio.EOF:
        yield message
        if keepalive is None:
            message = await stream.read()
            continue
        # A wait that is given up must not take the read with it, which ends the call.
        reading = asyncio.ensure_future(stream.read())
        try:
            while not (await asyncio.wait((reading,), timeout=keepalive))[0]:
                yield None
            message = reading.result()
        finally:
            reading.cancel()
