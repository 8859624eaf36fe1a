"""Exchanges: what is read of a request, and how a response is sent."""

from __future__ import annotations

import asyncio

import h11
import pytest

from rapport.gateway.errors import ApiError
from rapport.gateway.http1.body_budget import BodyBudget
from rapport.gateway.http1.exchange import MAX_SEND_BYTES, MAX_TIMEOUT_S, Exchange
from tests.gateway.peers import FakePeer, exchange


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("500m", 0.5), ("5u", 5e-6), ("7n", 7e-9)],
)
async def test_timeout(header: str, seconds: float) -> None:
    """Deadlines come in gRPC's units."""
    assert exchange(grpc_timeout=header).timeout() == pytest.approx(seconds)


async def test_long_timeout() -> None:
    """A deadline in ten thousand years is one, though gRPC would take it for a past one."""
    assert exchange(grpc_timeout="99999999H").timeout() == MAX_TIMEOUT_S


@pytest.mark.parametrize("header", ["", "1", "S", "1.5S", "123456789S", "-1S", "1s"])
async def test_bad_timeout(header: str) -> None:
    """A deadline that gRPC would not take is a 400."""
    with pytest.raises(ApiError):
        exchange(grpc_timeout=header).timeout()
    assert exchange().timeout() is None


async def read(one: Exchange, limit: int) -> bytes:
    with BodyBudget(1000).hold(one.refuse_body) as held:
        return await one.body(limit, held)


async def test_body_in_pieces() -> None:
    """A body is put together, and refused when it is over the limit."""
    pieces = [b"ab", b"ab", b"c", b""]
    assert await read(exchange(FakePeer(pieces)), 5) == b"ababc"
    with pytest.raises(ApiError) as raised:
        await read(exchange(FakePeer(pieces)), 4)
    assert raised.value.status == 413


async def test_body_that_gives_way() -> None:
    """A body that has to make room for others ends with the error that says so."""
    slow, budget = exchange(FakePeer([b"a" * (30 << 10)])), BodyBudget(40 << 10)
    with budget.hold(slow.refuse_body) as held, budget.hold(lambda _: None) as other:
        reading = asyncio.create_task(slow.body(1 << 20, held))
        await asyncio.sleep(0.01)
        other.add(50 << 10)
        with pytest.raises(ApiError) as raised:
            await reading
    assert raised.value.status == 503


@pytest.mark.parametrize("values", [("Bearer a", "Bearer b"), ("Bearer a", "Bearer a")])
async def test_two_credentials(values: tuple[str, str]) -> None:
    """Nobody can say which of two keys counts, so neither does."""
    one = exchange()
    one.request.headers.extend(("authorization", value) for value in values)
    with pytest.raises(ApiError) as raised:
        one.check_headers()
    assert raised.value.status == 400


@pytest.mark.parametrize(
    "size",
    [0, 1, MAX_SEND_BYTES - 1, MAX_SEND_BYTES, MAX_SEND_BYTES + 1, 2 * MAX_SEND_BYTES + 1],
)
async def test_a_long_body_goes_in_pieces(size: int) -> None:
    """Between them the connection can hold them back; together they are the body."""
    peer = FakePeer()
    one, body = exchange(peer), bytes(number % 251 for number in range(size))
    await one.respond(200, body, {})
    start, *pieces, end = peer.sent
    assert isinstance(start, h11.Response)
    assert (b"content-length", str(size).encode()) in start.headers.raw_items()
    assert peer.body == body
    assert all(0 < len(piece.data) <= MAX_SEND_BYTES for piece in pieces) or not size
    assert isinstance(end, h11.EndOfMessage)
    assert one.finished
    assert one.sent_bytes == size


async def test_no_body_for_head() -> None:
    """HEAD gets the headers of the answer to a GET."""
    peer = FakePeer()
    await exchange(peer, method="HEAD").respond(200, b"body", {})
    assert [type(event) for event in peer.sent] == [h11.Response, h11.EndOfMessage]


async def test_last_answer_says_so() -> None:
    """The last answer of a connection has `connection: close`."""
    peer = FakePeer()
    peer.closes = True
    await exchange(peer).respond(200, b"", {})
    start = peer.sent[0]
    assert isinstance(start, h11.Response)
    assert (b"connection", b"close") in start.headers.raw_items()
