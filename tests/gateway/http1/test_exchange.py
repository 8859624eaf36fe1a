"""Exchanges: what is read of a request, and work that ends when the client goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.errors import ApiError
from rapport.gateway.http1.exchange import PIECE, DisconnectedError, Exchange


def exchange(*events: dict[str, Any], **headers: str) -> Exchange:
    """A request with these events, after which the client stays."""
    waiting = list(events)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else await asyncio.Future()

    async def send(_: Any) -> None:
        return

    scope = {
        "method": "POST",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
    }
    return Exchange(scope, receive, send, FIREWORKS)


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("500m", 0.5), ("5u", 5e-6), ("7n", 7e-9)],
)
def test_timeout(header: str, seconds: float) -> None:
    """Deadlines come in gRPC's units."""
    assert exchange(grpc_timeout=header).timeout() == pytest.approx(seconds)


def test_long_timeout() -> None:
    """A deadline in ten thousand years is one, though gRPC would take it for a past one."""
    assert exchange(grpc_timeout="99999999H").timeout() == 365 * 24 * 3600


@pytest.mark.parametrize("header", ["", "1", "S", "1.5S", "123456789S", "-1S", "1s"])
def test_bad_timeout(header: str) -> None:
    """A deadline that gRPC would not take is a 400."""
    with pytest.raises(ApiError):
        exchange(grpc_timeout=header).timeout()
    assert exchange().timeout() is None


async def test_body_in_pieces() -> None:
    """A body is put together, and a client that goes before its end has no answer."""
    pieces = [{"type": "http.request", "body": b"ab", "more_body": True}] * 2
    end = {"type": "http.request", "body": b"c", "more_body": False}
    assert await exchange(*pieces, end).body(5) == b"ababc"
    with pytest.raises(DisconnectedError):
        await exchange(*pieces, GONE).body(5)
    with pytest.raises(ApiError):
        await exchange(*pieces, end).body(4)


async def test_attend() -> None:
    """Work gives its result, and is cancelled when the client goes or the caller is cancelled."""
    cancelled = 0

    async def work(seconds: float) -> str:
        nonlocal cancelled
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return "done"

    assert await exchange().attend(work(0)) == "done"
    with pytest.raises(DisconnectedError):
        await exchange(GONE).attend(work(60))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(exchange().attend(work(60)), 0.01)
    assert cancelled == 2


async def test_failures_come_through() -> None:
    """What the work raises is raised."""

    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await exchange().attend(work())


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1])
async def test_a_long_body_goes_in_pieces(size: int) -> None:
    """Between them the connection can hold them back; together they are the body."""
    one, sent = exchange(), []
    one._send = lambda message: _keep(sent, message)
    body = bytes(number % 251 for number in range(size))
    await one.respond(200, body, {})
    start, *pieces = sent
    assert (b"content-length", str(size).encode()) in start["headers"]
    assert b"".join(piece["body"] for piece in pieces) == body
    assert all(0 < len(piece["body"]) <= PIECE for piece in pieces) or not size
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert one.sent_bytes == size


async def _keep(sent: list[dict[str, Any]], message: dict[str, Any]) -> None:
    sent.append(message)
