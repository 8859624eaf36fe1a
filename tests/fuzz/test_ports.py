"""What no client sends, on both ports: the server goes on, and nothing of it stays."""

from __future__ import annotations

import gzip
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from bench.server import Target, rapport
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.fuzz import http2
from tests.fuzz.http2 import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, OPENING, frame
from tests.plain_http import NO_CERTIFICATES
from tests.service.requests import MODEL, chat

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="how large a process has been is read from /proc"
)

# Of a process at its largest, in KiB.
ROOM = 300 << 10
FILLER = http2.header("x" * 100, "y" * 100)
RESETS = 10_000
# What ends a stream, too early or by a lie about what follows.
BEGUN = frame(HEADERS, END_HEADERS, 1, http2.call())
ZIPPED = frame(HEADERS, END_HEADERS, 1, http2.call(grpc_encoding="gzip"))
BOMB = http2.message(gzip.compress(bytes(1 << 28)), compressed=True)


def noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)  # noqa: S311 - the same every time


GRPC_ATTACKS = {
    "noise": [noise(100_000)],
    "noise after the preface": [http2.PREFACE, noise(10_000)],
    "noise in frames": [OPENING, *(frame(kind, kind, 1, noise(99)) for kind in range(256))],
    "a frame of any length": [OPENING, b"\xff\xff\xff" + noise(100_000)],
    "headers without end": [
        OPENING,
        frame(HEADERS, 0, 1, http2.call()),
        *[frame(CONTINUATION, 0, 1, FILLER * 80)] * 1000,
    ],
    "empty continuations": [
        OPENING,
        frame(HEADERS, 0, 1, http2.call()),
        *[frame(CONTINUATION, 0, 1) * 1000] * 50,
    ],
    "too many headers": [OPENING, frame(HEADERS, END_HEADERS, 1, http2.call() + FILLER * 75)],
    "rapid resets": [OPENING, *map(http2.reset_call, range(1, 2 * RESETS, 2))],
    "settings": [OPENING, *[frame(http2.SETTINGS, 0, 0) * 1000] * 20],
    "a message that claims 4 GiB": [
        OPENING,
        BEGUN,
        frame(DATA, 0, 1, http2.message(b"x", length=2**32 - 1)),
    ],
    "a message cut short": [
        OPENING,
        BEGUN,
        frame(DATA, END_STREAM, 1, http2.message(b"x", length=1000)),
    ],
    "a message that is none": [OPENING, BEGUN, frame(DATA, END_STREAM, 1, noise(1000))],
    "a message of noise": [
        OPENING,
        BEGUN,
        frame(DATA, END_STREAM, 1, http2.message(noise(1000))),
    ],
    "a bomb": [
        OPENING,
        ZIPPED,
        *(frame(DATA, 0, 1, BOMB[at : at + 16384]) for at in range(0, len(BOMB), 16384)),
    ],
    "a path that is no text": [OPENING, http2.request(1, "/\udcff")],
    "HTTP/1.1": [b"POST / HTTP/1.1\r\nhost: x\r\n\r\n"],
}
POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n%b\r\n\r\n"
)
CHUNKED = POST % b"transfer-encoding: chunked"
GET = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
HTTP_ATTACKS = {
    "noise": [noise(100_000)],
    "nothing": [b"\r\n" * 10_000],
    "HTTP/2": [OPENING, BEGUN],
    "a long line": [b"GET /" + b"a" * 1_000_000],
    "many headers": [GET[:-2], *[b"a: b\r\n" * 1000] * 1000],
    "a long header": [GET[:-2] + b"a: ", *[b"b" * 10_000] * 1000],
    "odd paths": [b"GET /\xff\x00%%%zz/../..//\\ HTTP/1.1\r\nhost: x\r\n\r\n"],
    "odd queries": [b"GET /v1/models?%ff&&=&\xff HTTP/1.1\r\nhost: x\r\n\r\n"],
    "no path": [b"GET http:///// HTTP/1.1\r\nhost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n"],
    "two lengths": [POST % b"content-length: 4\r\ncontent-length: 40" + b"{}{}"],
    "length and chunks": [POST % b"content-length: 4\r\ntransfer-encoding: chunked" + b"0\r\n\r\n"],
    "unknown coding": [POST % b"transfer-encoding: xchunked, identity" + b"0\r\n\r\n"],
    "hidden coding": [POST % b"transfer-encoding : chunked" + b"0\r\n\r\n"],
    "folded header": [POST % b"content-length:\r\n 2" + b"{}"],
    "negative length": [POST % b"content-length: -2" + b"{}"],
    "huge length": [POST % b"content-length: 99999999999999999999999" + b"{}"],
    "length in words": [POST % b"content-length: 2, 2" + b"{}"],
    "fewer than said": [POST % b"content-length: 1000" + b"{}"],
    "more than said": [POST % b"content-length: 2" + b"{}" * 100],
    "odd chunk": [CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"],
    "huge chunk": [CHUNKED + b"FFFFFFFFFFFFFFFFF\r\n{}\r\n"],
    "chunk without end": [CHUNKED + b"FFFFFFF\r\n", *[noise(100_000)] * 50],
    "long extension": [CHUNKED + b"2;", *[b"a" * 10_000] * 1000],
    "many trailers": [CHUNKED + b"2\r\n{}\r\n0\r\n", *[b"a: b\r\n" * 1000] * 1000],
    "tiny chunks": [CHUNKED, *[b"1\r\n \r\n" * 1000] * 100],
    "upgrade": [POST % b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2" + b"{}"],
    "websocket": [GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"],
    "expectation": [POST % b"expect: 100-continue\r\ncontent-length: 2" + b"{}"],
    "pipeline": [GET * 200],
    "half a pipeline": [POST % b"content-length: 3" + b"{}\n" + GET[:20]],
}


@pytest.fixture(scope="module")
def attacked(small_folder: Path) -> Iterator[Target]:
    """A server of its own. At its end everything that was begun has ended."""
    with rapport(model_folder=small_folder) as (server, target):
        yield target
    accepted, *ended = counted(r"(\d+) accepted, (\d+) finished, (\d+) cancel", server.last_words)
    taken, released = counted(r"(\d+) taken, (\d+) released", server.last_words)
    assert accepted == sum(ended) > 0
    assert taken == released > 0
    assert "Traceback" not in server.last_words


def counted(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    assert found is not None, text
    return [int(number) for number in found.groups()]


@pytest.mark.parametrize("name", GRPC_ATTACKS)
def test_grpc_port(attacked: Target, name: str) -> None:
    """Whatever comes at the gRPC port, others are served and memory is bounded."""
    assert attacked.grpc is not None
    before = largest(attacked)
    http2.send(attacked.grpc, *GRPC_ATTACKS[name])
    check_well(attacked, before)


def test_message_over_the_limit(attacked: Target) -> None:
    """A message that is too long, plain or compressed, is refused as such."""
    before = largest(attacked)
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with grpc.insecure_channel(str(attacked.grpc)) as channel:
            create = ChatServiceStub(channel).CreateChatCompletion
            with pytest.raises(grpc.RpcError) as raised:
                create(chat("x" * (5 << 20)), compression=compression, timeout=20)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    check_well(attacked, before)


@pytest.mark.parametrize("name", HTTP_ATTACKS)
def test_rest_port(attacked: Target, name: str) -> None:
    """Whatever comes at the REST port, no answer blames the server and others get theirs."""
    assert attacked.rest is not None
    before = largest(attacked)
    answer = http2.send(attacked.rest, *HTTP_ATTACKS[name])
    # A 501 names a transfer coding that is not known.
    assert not re.search(rb"HTTP/1\.1 5(?!01)", answer), answer
    check_well(attacked, before)


def check_well(target: Target, before: int) -> None:
    """New connections are served, old ones are gone, and memory has stayed within bounds."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    reply = httpx.post(
        f"{target.rest}/v1/chat/completions", json=body, timeout=20, verify=NO_CERTIFICATES
    )
    assert reply.status_code == 200, reply.text
    with grpc.insecure_channel(str(target.grpc)) as channel:
        whole = ChatServiceStub(channel).CreateChatCompletion(chat(max_tokens=1), timeout=20)
        assert whole.usage.completion_tokens == 1
    assert largest(target) < before + ROOM
    deadline = time.monotonic() + 10
    while connections(target):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def largest(target: Target) -> int:
    """KiB of the server's processes, each at its largest so far."""
    texts = [Path(f"/proc/{part.pid}/status").read_text() for part in parts(target)]
    return sum(counted(r"VmHWM:\s+(\d+) kB", text)[0] for text in texts)


def connections(target: Target) -> int:
    """How many connections there are but for that between the parts."""
    addresses = [str(target.grpc), str(target.rest)]
    ports = [int(address.rpartition(":")[2]) for address in addresses]
    found = [
        (each.laddr.port, each.raddr.port)
        for part in parts(target)
        for each in part.net_connections("tcp")
        if each.raddr
    ]
    own = [port for port, other in found if other in ports]
    return sum(port in ports and other not in own for port, other in found)


def parts(target: Target) -> list[psutil.Process]:
    assert target.pid is not None
    return psutil.Process(target.pid).children(recursive=True)
