"""Requests that are sent without waiting for answers."""

from __future__ import annotations

import time
from contextlib import suppress

from tests.hostile.attacks.connections import connect

GET = b"GET / HTTP/1.1\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


def pipeline(rest: str, *, size_bytes: int, seconds: float, request: bytes = GET) -> None:
    """Sends so many bytes of one request as fast as they are taken, and reads no answer."""
    data = memoryview(request * (size_bytes // len(request)))
    until = time.monotonic() + seconds
    with connect(rest) as client, suppress(OSError):
        client.settimeout(seconds)
        while data and time.monotonic() < until:
            data = data[client.send(data[: 1 << 20]) :]
        time.sleep(max(0, until - time.monotonic()))
