"""Calls over raw HTTP/2, of clients that keep to no rule of gRPC."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.contract.callers import chat, to_proto
from tests.fuzz import http2
from tests.fuzz.http2 import DATA, END_HEADERS, HEADERS, frame
from tests.hostile.attacks.connections import connections, send_all
from tests.hostile.attacks.unread import LONG

STREAM_CHAT = "/rapport.v1.ChatService/StreamChatCompletion"
CREATE_CHAT = http2.CHAT
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
WINDOW_UPDATE = 8
ONE = (1).to_bytes(4, "big")
DEFAULT_WINDOW_BYTES = 65_535
# Until gRPC has read what came.
JUNK_S = 0.2
# ServerReflectionRequest{file_containing_symbol: "rapport.v1.ChatService"}
DESCRIBE = b"\x22\x16rapport.v1.ChatService"


def begin(stream: int, path: str, key: str = "") -> bytes:
    """The head of a call."""
    return frame(HEADERS, END_HEADERS, stream, http2.call(path, **credentials(key)))


def credentials(key: str) -> dict[str, str]:
    """The metadata of a key, if there is one."""
    return {"authorization": f"Bearer {key}"} if key else {}


@contextmanager
def held_calls(
    grpc: str,
    key: str = "",
    *,
    path: str = CREATE_CHAT,
    payload: bytes | None = None,
    clients: int = 1,
    calls: int,
) -> Iterator[None]:
    """Calls whose answers may not be sent; without a payload their message never comes."""
    streams = range(1, 2 * calls, 2)
    if payload is None:
        sent = [begin(stream, path, key) for stream in streams]
    else:
        sent = [http2.request(stream, path, payload, **credentials(key)) for stream in streams]
    with connections(grpc, clients, narrow=True) as opened:
        send_all(opened, http2.opening(0) + b"".join(sent))
        yield


def idle_connections(grpc: str, *, clients: int, seconds: float) -> None:
    """Connections that begin HTTP/2 and call nothing."""
    with connections(grpc, clients) as opened:
        send_all(opened, http2.opening(DEFAULT_WINDOW_BYTES))
        time.sleep(seconds)


def watchers(grpc: str, *, clients: int, calls: int, seconds: float) -> None:
    """Watches health with a window of 0."""
    with held_calls(grpc, path=WATCH, payload=b"", clients=clients, calls=calls):
        time.sleep(seconds)


def unread_chats(grpc: str, key: str, *, calls: int, seconds: float, stream: bool) -> None:
    """Long answers, whole or streamed, into a window of 0."""
    path = STREAM_CHAT if stream else CREATE_CHAT
    payload = to_proto(chat(**LONG)).SerializeToString()
    with held_calls(grpc, key, path=path, payload=payload, calls=calls):
        time.sleep(seconds)


def calls_without_message(grpc: str, key: str, *, clients: int, calls: int, seconds: float) -> None:
    """Chats whose message never comes; `key` may be wrong or empty."""
    with held_calls(grpc, key, clients=clients, calls=calls):
        time.sleep(seconds)


def resets(grpc: str, key: str, *, count: int, clients: int = 1, path: str = CREATE_CHAT) -> None:
    """Calls that are cancelled as soon as they are begun, so many on each connection."""
    more = credentials(key)
    sent = [http2.reset_call(stream, path, **more) for stream in range(1, 2 * count, 2)]
    with connections(grpc, clients) as opened:
        send_all(opened, http2.opening(DEFAULT_WINDOW_BYTES) + b"".join(sent))


def reflect(grpc: str, *, clients: int, count: int, seconds: float) -> None:
    """Asks reflection for so many descriptors on one stream of each connection."""
    asked = http2.message(DESCRIBE) * count
    pieces = [asked[at : at + (1 << 14)] for at in range(0, len(asked), 1 << 14)]
    data = b"".join(frame(DATA, 0, 1, piece) for piece in pieces)
    until = time.monotonic() + seconds
    with connections(grpc, clients) as opened:
        send_all(opened, http2.opening(1 << 30) + begin(1, REFLECTION))
        for client in opened:
            client.settimeout(0.2)
            with suppress(OSError):
                client.sendall(data)
        while time.monotonic() < until:
            for client in opened:
                with suppress(OSError):
                    client.recv(1 << 20)


def trickle(grpc: str, key: str, *, calls: int, seconds: float) -> None:
    """Long streams that are read a byte at a time."""
    payload = to_proto(chat(**LONG)).SerializeToString()
    streams = range(1, 2 * calls, 2)
    begun = b"".join(
        http2.request(stream, STREAM_CHAT, payload, **credentials(key)) for stream in streams
    )
    updates = b"".join(frame(WINDOW_UPDATE, 0, stream, ONE) for stream in streams)
    until = time.monotonic() + seconds
    with connections(grpc, 1) as opened:
        send_all(opened, http2.opening(0) + begun)
        for client in opened:
            client.settimeout(0.01)
        while time.monotonic() < until:
            send_all(opened, updates)
            for client in opened:
                with suppress(OSError):
                    client.recv(1 << 16)


def junk_messages(grpc: str, path: str, *, calls: int, seed: int) -> None:
    """Calls of a method that asks for no key, with messages that are none."""
    source = random.Random(seed)  # noqa: S311 - noise, not secrets
    streams = range(1, 2 * calls, 2)
    data = b"".join(http2.request(stream, path, source.randbytes(50)) for stream in streams)
    with connections(grpc, 1) as opened:
        send_all(opened, http2.opening(DEFAULT_WINDOW_BYTES) + data)
        time.sleep(JUNK_S)
