"""Bodies that come slowly, or not to their end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import repeat

import pytest

from rapport.gateway.errors import ApiError
from rapport.gateway.http1.body_reader import BodyClock, BodyReader
from rapport.gateway.http1.parser import Incoming
from rapport.gateway.http1.turns import Turns
from tests.gateway.http1.streams import POST, Connect, answer, last_words, trickle


@pytest.mark.parametrize(
    "length", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
@pytest.mark.parametrize("rest", [b"", b"1\r\n1\r\n"])
async def test_body_that_never_ends(connect: Connect, length: bytes, rest: bytes) -> None:
    """So is a body."""
    async with connect() as (reader, writer):
        writer.write(POST + length)
        trickling = asyncio.create_task(trickle(writer, repeat(rest)))
        assert (await last_words(reader)).startswith(b"HTTP/1.1 408 ")
        trickling.cancel()


async def test_body_that_takes_its_time(connect: Connect) -> None:
    """A body that is large for its link has more time: it is slow, not idle."""
    async with connect() as (reader, writer):
        writer.write(POST + b"Content-Length: 20002\r\n\r\n{")
        for _ in range(20):
            writer.write(b" " * 1000)
            await asyncio.sleep(0.05)
        writer.write(b"}")
        assert (await answer(reader))[0] == 200


async def test_body_after_its_answer(connect: Connect) -> None:
    """A body that was refused by its length and still trickles in is not waited for."""
    async with connect() as (reader, writer):
        writer.write(POST + b"Content-Length: 999999999\r\n\r\n")
        status, _ = await answer(reader)
        assert status == 413
        trickling = asyncio.create_task(trickle(writer, repeat(b"x")))
        with suppress(ConnectionResetError):  # by what came too late
            assert await last_words(reader) == b""
        trickling.cancel()


async def test_body_has_a_time_in_all(connect: Connect) -> None:
    """However fast it comes, a body that has not ended after body_timeout is a 408."""
    async with connect(20, body_timeout=0.3) as (reader, writer):
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        trickling = asyncio.create_task(trickle(writer, repeat(b"400\r\n" + b" " * 1024 + b"\r\n")))
        response = await last_words(reader)
        trickling.cancel()
    assert response.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 0.3 s" in response


def test_bytes_earn_time() -> None:
    """Each KiB earns a second, until the time of a whole body is over."""
    clock = BodyClock(began=1000, read_timeout=20, body_timeout=120)
    assert clock.deadline == 1020
    clock.received_bytes = 10 << 10
    assert clock.deadline == 1030
    clock.received_bytes = 4 << 20
    assert clock.deadline == 1120
    assert clock.error.message == "The request did not come within 120 s"


async def test_tiny_pieces_let_others_have_a_turn() -> None:
    """A body of very many chunks is not parsed in one go."""
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    waiting = bytearray(b"1\r\n \r\n" * 10_000 + b"0\r\n\r\n")
    clock = BodyClock(asyncio.get_running_loop().time(), 20, 20)
    reader = BodyReader(Incoming(head, waiting), lambda: None, clock, Turns())
    turns = 0

    async def read() -> int:
        return sum([len(piece) for piece in [await reader.next() for _ in range(10_001)]])

    reading = asyncio.create_task(read())
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert await reading == 10_000
    assert turns > 100


async def test_refused_while_it_is_waited_for() -> None:
    """Who waits for a body hears at once that it is refused."""
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"
    clock = BodyClock(asyncio.get_running_loop().time(), 20, 20)
    reader = BodyReader(Incoming(head, bytearray()), lambda: None, clock, Turns())
    reading = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    reader.refuse(clock.error)
    with pytest.raises(ApiError):
        await reading
