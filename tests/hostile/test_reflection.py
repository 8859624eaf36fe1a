"""Floods of reflection: a few bytes must not bring gigabytes out, nor hold memory."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from rapport.service.rpc.reflection import MAX_BYTES_PER_MINUTE
from rapport.service.server import MAX_REFLECTIONS_PER_CONNECTION
from tests.fuzz import http2
from tests.hostile.attacked import Attacked
from tests.hostile.attacks.connections import connections
from tests.hostile.attacks.rpcs import DESCRIBE, REFLECTION, begin

CLIENTS = 4
STREAMS = 2 * MAX_REFLECTIONS_PER_CONNECTION
REQUESTS = 2000
WINDOW_UPDATE = 8
WINDOW_BYTES = 1 << 30
MAX_GROWTH_BYTES = 100 << 20
# Silence that ends the count.
SILENCE_S = 2


def flood(opened: socket.socket) -> None:
    """Asks for a large answer again and again, on more streams than a connection may have."""
    asked = http2.message(DESCRIBE) * REQUESTS
    pieces = [asked[at : at + (1 << 14)] for at in range(0, len(asked), 1 << 14)]
    numbers = range(1, 2 * STREAMS, 2)
    grow = http2.frame(WINDOW_UPDATE, 0, 0, WINDOW_BYTES.to_bytes(4, "big"))
    with suppress(OSError):
        opened.sendall(
            http2.opening(WINDOW_BYTES) + grow + b"".join(begin(n, REFLECTION) for n in numbers)
        )
        for piece in pieces:
            opened.sendall(b"".join(http2.frame(http2.DATA, 0, n, piece) for n in numbers))


def answered(opened: socket.socket) -> int:
    """Bytes that come until there are no more."""
    sending = threading.Thread(target=flood, args=(opened,))
    sending.start()
    opened.settimeout(SILENCE_S)
    received = 0
    with suppress(OSError):
        while piece := opened.recv(1 << 20):
            received += len(piece)
    with suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)
    sending.join()
    return received


def test_flood(attacked: Attacked) -> None:
    """Each connection is answered its share, in bounded memory, and nobody waits for it."""
    with (
        attacked.beside(max_growth_bytes=MAX_GROWTH_BYTES),
        connections(attacked.grpc, CLIENTS) as opened,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        received = list(pool.map(answered, opened))
    assert max(received) < 1.5 * MAX_BYTES_PER_MINUTE


def test_unread(attacked: Attacked) -> None:
    """Answers that are not read are bounded, too."""
    with (
        attacked.beside(max_growth_bytes=MAX_GROWTH_BYTES) as bystander,
        connections(attacked.grpc, CLIENTS) as opened,
    ):
        for each in opened:
            each.settimeout(1)
            flood(each)
        bystander.wait()
