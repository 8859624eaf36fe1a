"""Bytes that are no request, and clients of metrics that are slow."""

from __future__ import annotations

import random
import time

from tests.fuzz.http2 import OPENING, frame
from tests.hostile.attacks.connections import connections, send_all


def noise(address: str, *, clients: int, size_bytes: int, seed: int) -> None:
    """Random bytes, plain and in frames of HTTP/2."""
    source = random.Random(seed)  # noqa: S311 - noise, not secrets
    with connections(address, clients) as opened:
        for client in opened:
            data = source.randbytes(size_bytes)
            kind = source.randrange(10)
            framed = OPENING + frame(kind, source.randrange(256), source.randrange(8), data[:9000])
            send_all([client], data if source.random() < 1 / 2 else framed)


def slow_scrapes(metrics: str, *, clients: int, seconds: float) -> None:
    """Scrapes whose heads do not end, and whose answers nobody reads."""
    scrape = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n"
    with connections(metrics, clients, narrow=True) as opened:
        half = len(opened) // 2
        send_all(opened[:half], scrape)
        send_all(opened[half:], scrape + b"\r\n")
        time.sleep(seconds)
