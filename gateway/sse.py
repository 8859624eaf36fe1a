"""Server-sent events: framing, and a stream's messages in batches."""

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
DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"
# Messages that may wait for a slow reader before gRPC's flow control takes over.
QUEUE_LIMIT = 64


def event(payload: bytes) -> bytes:
    """One event; the payload is JSON on a single line."""
    return b"data: " + payload + b"\n\n"


Stream = grpc.aio.UnaryStreamCall[bytes, bytes]


async def batches(
    stream: Stream, first: Any, *, keepalive: float | None
) -> AsyncGenerator[list[bytes], None]:
    """Yields all messages that have come since the last time, from the first on.

    With `keepalive`, an empty batch says that nothing came for so many seconds.
    Raises AioRpcError if the stream fails, after the messages before it.
    """
    queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE_LIMIT)
    reader = asyncio.create_task(_read(stream, first, queue))
    try:
        end = None
        while end is None:
            batch = await _take(queue, keepalive)
            end = batch.pop() if batch and not isinstance(batch[-1], bytes) else None
            if batch or end is None:
                yield batch
        if isinstance(end, Exception):
            raise end
    finally:
        reader.cancel()


async def _read(stream: Stream, message: Any, queue: asyncio.Queue[Any]) -> None:
    """Queues the messages and, last, what ended them: EOF or an error."""
    try:
        while message is not grpc.aio.EOF:
            await queue.put(message)
            message = await stream.read()
    except grpc.aio.AioRpcError as error:
        message = error
    await queue.put(message)


async def _take(queue: asyncio.Queue[Any], keepalive: float | None) -> list[Any]:
    try:
        # Most of the time nothing has to be waited for, or nothing limits the wait.
        unlimited = keepalive is None or not queue.empty()
        waiting = queue.get() if unlimited else asyncio.wait_for(queue.get(), keepalive)
        batch = [await waiting]
    except TimeoutError:
        return []
    while not queue.empty():
        batch.append(queue.get_nowait())
    return batch
