"""Requests that are left at any moment, over both protocols, leave nothing behind."""

from __future__ import annotations

import asyncio
from itertools import count as numbers
from random import Random

import grpc
import pytest

from bench import wire
from bench.delivery import grpc_request, rest_body
from bench.server import host_and_port
from tests.scale.conftest import Instant, Serve

CALLERS = 32
TOKENS = 2000
# Seconds after which a caller leaves, at most: some have not been read, some wait, some run.
PATIENCE = 0.4


async def leave_rest(instant: Instant, random: Random) -> None:
    """Asks, whole or streamed, and closes or resets the connection."""
    _, writer = await asyncio.open_connection(*host_and_port(instant.rest))
    body = rest_body(TOKENS)
    if random.random() < 1 / 2:
        body = body.replace(b'"stream":true', b'"stream":false')
    request = wire.http_request(body)
    # Some leave before all of the request is there.
    writer.write(request[: random.choice([len(request), len(request), random.randrange(400)])])
    await asyncio.sleep(random.uniform(0, PATIENCE))
    if random.random() < 1 / 2:
        writer.transport.abort()
    else:
        writer.close()


async def leave_grpc(channel: grpc.aio.Channel, random: Random) -> None:
    """Asks, and cancels or lets a deadline pass."""
    timeout = random.uniform(0.001, PATIENCE) if random.random() < 1 / 2 else None
    streams = channel.unary_stream("/rapport.v1.ChatService/StreamChatCompletion")
    call = streams(grpc_request(TOKENS), timeout=timeout)  # type: ignore[operator]
    reading = asyncio.ensure_future(read_on(call))
    await asyncio.wait((reading,), timeout=random.uniform(0, PATIENCE))
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def read_on(call: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def leave_many(instant: Instant, count: int) -> None:
    left = numbers()

    async def caller(random: Random, channel: grpc.aio.Channel) -> None:
        while next(left) < count:
            if random.random() < 1 / 2:
                await leave_rest(instant, random)
            else:
                await leave_grpc(channel, random)

    async with grpc.aio.insecure_channel(instant.grpc) as channel, asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            random = Random(number)  # noqa: S311 - moments, not secrets
            callers.create_task(caller(random, channel))


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.scale, pytest.mark.timeout(900)])]
)
async def test_nothing_is_left_of_those_who_left(serve: Serve, count: int) -> None:
    """Every request is accounted for, every slot and file is back, and memory does not grow."""
    with serve(step=0.005, slots=8, max_waiting=64) as instant:
        await leave_many(instant, CALLERS)  # what is made once is made
        await asyncio.sleep(1)
        files, before = instant.files(), instant.resident()
        await leave_many(instant, count)
        async with asyncio.timeout(20):
            while any(now > files[name] + 2 for name, now in instant.files().items()):  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.1)
        grown = {name: now - before[name] for name, now in instant.resident().items()}
        assert max(grown.values()) < 60 * 2**20, grown
        whole = await wire.receive_events(instant.rest, rest_body(10))
        assert whole.tokens == 10
    _, finished, cancelled, failed = instant.account()
    # The others left before the service knew of them: on a busy machine that is most.
    assert cancelled > count / 4
    assert finished >= 1
    assert failed == 0
