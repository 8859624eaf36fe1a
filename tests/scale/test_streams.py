"""Many streams at a time, some of them slow and some stuck, in bounded memory."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import grpc
import pytest

from bench import wire
from bench.delivery import grpc_request, rest_body, unread_body
from bench.server import host_and_port
from rapport.v1.status_pb2 import GetStatusRequest
from rapport.v1.status_pb2_grpc import StatusServiceStub
from tests.scale.conftest import Instant, Serve

# Of so many streams, one is stuck, one is slow and one is over gRPC.
ONE_IN = 10
TOKENS = 200
SLOW_READ, SLOW_PAUSE = 2048, 0.1
# What a stream may take in either process, the row of logits in the service aside.
MOST_BYTES = 400_000
LOGITS = 4 * 49152


async def read_slowly(url: str, body: bytes) -> bool:
    """Whether all of the stream came."""
    reader, writer = await asyncio.open_connection(*host_and_port(url), limit=SLOW_READ)
    writer.write(wire.http_request(body))
    received = b""
    while data := await reader.read(SLOW_READ):
        received = (received + data)[-100:]
        if received.endswith(b"0\r\n\r\n"):
            break
        await asyncio.sleep(SLOW_PAUSE)
    writer.close()
    return b"[DONE]" in received


async def hold(instant: Instant, count: int) -> dict[str, int]:
    """Opens `count` streams. Returns by how much each process had grown when all were open."""
    before = instant.resident()
    some = count // ONE_IN
    body = rest_body(TOKENS)
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(instant.grpc))
        for _ in range(some):
            await stack.enter_async_context(wire.stuck(instant.rest, unread_body()))
        slow = [read_slowly(instant.rest, body) for _ in range(some)]
        rpcs = [wire.receive_messages(channel, grpc_request(TOKENS)) for _ in range(some)]
        rest = [wire.receive_events(instant.rest, body) for _ in range(count - 3 * some)]
        tasks = [asyncio.ensure_future(each) for each in (*slow, *rpcs, *rest)]
        peaks = before
        while not all(task.done() for task in tasks):
            peaks = {name: max(peaks[name], now) for name, now in instant.resident().items()}
            await asyncio.sleep(0.2)
        ended = [task.result() for task in tasks]
    assert all(ended[:some])
    assert {received.tokens for received in ended[some:]} == {TOKENS}
    return {name: peaks[name] - before[name] for name in before}


async def cancelled(instant: Instant) -> int:
    """Requests that the service has given up by now."""
    async with grpc.aio.insecure_channel(instant.grpc) as channel:
        status = await StatusServiceStub(channel).GetStatus(GetStatusRequest())
    return int(status.requests.cancelled)


@pytest.mark.parametrize(
    "count", [40, pytest.param(1000, marks=[pytest.mark.scale, pytest.mark.timeout(900)])]
)
async def test_all_streams_are_served(serve: Serve, count: int) -> None:
    """Who reads gets everything, who leaves is cancelled, and each stream costs little memory."""
    some = count // ONE_IN
    with serve(slots=count, max_waiting=count) as instant:
        most_files = instant.files()["gateway"] + 2
        grown = await hold(instant, count)
        per_stream = {name: bytes_ // count for name, bytes_ in grown.items()}
        sys.stdout.write(f"\n{count} streams took, each, at most {per_stream} bytes\n")
        assert per_stream["gateway"] < MOST_BYTES
        assert per_stream["service"] - LOGITS < MOST_BYTES
        async with asyncio.timeout(20):
            while await cancelled(instant) < some or instant.files()["gateway"] > most_files:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.1)
    assert instant.account() == (count, count - some, some, 0)
