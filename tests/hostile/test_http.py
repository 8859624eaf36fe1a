"""What a connection to the REST port can make the gateway hold or do, without a key."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hostile.attacked import Attacked
from tests.hostile.attacks import pipelining, unfinished
from tests.hostile.attacks.connections import connect, connections, head, post, send_all

MANY_HEADERS = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 10_000 + b"\r\n"
TINY_CHUNKS = b"1\r\n \r\n"
MAX_GROWTH_BYTES = 96 << 20
SECONDS = 2


@pytest.mark.parametrize("request_", [pipelining.GET, pipelining.HEALTH], ids=["junk", "health"])
def test_pipelines(attacked: Attacked, request_: bytes) -> None:
    """Megabytes of requests that wait for no answer, on many connections at once."""

    def pipeline(_: int) -> None:
        pipelining.pipeline(attacked.rest, size_bytes=8 << 20, seconds=SECONDS, request=request_)

    with attacked.beside(max_growth_bytes=MAX_GROWTH_BYTES), ThreadPoolExecutor(40) as threads:
        list(threads.map(pipeline, range(40)))


def test_pipelines_behind_a_slow_body(attacked: Attacked) -> None:
    """What follows a request that has not ended stays with who sent it."""
    with (
        attacked.beside(max_growth_bytes=MAX_GROWTH_BYTES),
        connections(attacked.rest, 100) as clients,
    ):
        send_all(clients, head(content_length="4") + b"{}" + pipelining.GET * 1000)
        time.sleep(SECONDS)


def test_unfinished_bodies(attacked: Attacked) -> None:
    """Bodies that are never finished are held within a bound, and large ones come through."""
    with attacked.beside(max_growth_bytes=MAX_GROWTH_BYTES), ThreadPoolExecutor(1) as threads:
        size = 4 << 20
        attack = threads.submit(
            unfinished.unfinished_bodies, attacked.rest, count=100, size_bytes=size, seconds=2
        )
        statuses = []
        while not attack.done():
            statuses.append(status_of_large_body(attacked))
        assert set(statuses) == {b"401"}, statuses


def status_of_large_body(attacked: Attacked) -> bytes:
    """A megabyte that comes at once, with no key: it is read, and then refused for the key."""
    body = b'{"model":"x","messages":[{"role":"user","content":"%b"}]}' % (b"a" * (1 << 20))
    with connect(attacked.rest) as client:
        client.sendall(post(body))
        return client.recv(1 << 16)[9:12]


def test_tiny_chunks_and_many_headers(attacked: Attacked) -> None:
    """Bytes that are dear to parse have their turn, and no more."""
    with (
        attacked.beside(max_growth_bytes=MAX_GROWTH_BYTES),
        connections(attacked.rest, 100) as clients,
    ):
        send_all(clients[:50], MANY_HEADERS)
        send_all(clients[50:], head(transfer_encoding="chunked") + TINY_CHUNKS * 5000)
        time.sleep(SECONDS)


def test_slow_bodies(attacked: Attacked) -> None:
    """Bodies that come a byte at a time are ended, and cost nobody anything meanwhile."""
    with attacked.beside(max_growth_bytes=MAX_GROWTH_BYTES):
        unfinished.slow_bodies(attacked.rest, count=100, seconds=4)
