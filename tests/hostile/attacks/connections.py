"""Connections that an attack holds, and requests as bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import orjson

from bench.server import host_and_port
from tests.contract.callers import PATH

# For a connection, or for bytes to be taken; then the attack gives up.
TIMEOUT_S = 10
NARROW_BYTES = 4096


def connect(address: str, *, narrow: bool = False) -> socket.socket:
    """A connection to a URL or host:port; a narrow one takes little ahead of its reader."""
    client = socket.socket()
    client.settimeout(TIMEOUT_S)
    if narrow:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
    try:
        client.connect(host_and_port(address))
    except OSError:
        client.close()
        raise
    return client


@contextmanager
def connections(address: str, count: int, *, narrow: bool = False) -> Iterator[list[socket.socket]]:
    """So many connections, or as many as the server takes."""
    with ExitStack() as stack:
        opened: list[socket.socket] = []
        with suppress(OSError):
            opened.extend(
                stack.enter_context(connect(address, narrow=narrow)) for _ in range(count)
            )
        yield opened


def send_all(clients: list[socket.socket], data: bytes) -> None:
    """Sends the same on all; connections that the server has closed are passed over."""
    for client in clients:
        with suppress(OSError):
            client.sendall(data)


def head(path: str = PATH, *, key: str = "", **headers: str) -> bytes:
    """Line and headers of a POST of JSON; underscores in names are hyphens."""
    given = {"host": "localhost", "content-type": "application/json"} | headers
    if key:
        given["authorization"] = f"Bearer {key}"
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items()]
    return f"POST {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


def post(body: Mapping[str, Any] | bytes, path: str = PATH, *, key: str = "") -> bytes:
    """A whole request."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return head(path, key=key, content_length=str(len(content))) + content


def drain(client: socket.socket) -> bytes:
    """What comes until the server closes, or sends nothing for `TIMEOUT_S`."""
    received = b""
    with suppress(OSError):
        while data := client.recv(1 << 16):
            received += data
    return received
