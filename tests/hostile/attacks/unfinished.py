"""Requests of which the end does not come."""

from __future__ import annotations

import time

from tests.hostile.attacks.connections import connections, head, send_all

PAUSE_S = 0.1


def unfinished_heads(address: str, *, count: int, size_bytes: int, seconds: float) -> None:
    """Connections that send so much of a head, or nothing, and wait."""
    begun = (b"POST / HTTP/1.1\r\nx: " + b"a" * size_bytes)[:size_bytes]
    with connections(address, count) as clients:
        send_all(clients, begun)
        time.sleep(seconds)


def unfinished_bodies(rest: str, *, count: int, size_bytes: int, seconds: float) -> None:
    """Connections that send a body of so many bytes but for the last."""
    data = head(content_length=str(size_bytes)) + b" " * (size_bytes - 1)
    with connections(rest, count) as clients:
        send_all(clients, data)
        time.sleep(seconds)


def slow_bodies(rest: str, *, count: int, seconds: float) -> None:
    """Chunked bodies that come a byte at a time."""
    until = time.monotonic() + seconds
    with connections(rest, count) as clients:
        send_all(clients, head(transfer_encoding="chunked"))
        while time.monotonic() < until:
            send_all(clients, b"1\r\n \r\n")
            time.sleep(PAUSE_S)
