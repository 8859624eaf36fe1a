"""Frames of HTTP/2, as a client writes them that keeps to no rule but those of framing."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from bench.server import host_and_port

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, CONTINUATION = 0, 1, 3, 4, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8
CHAT = "/rapport.v1.ChatService/CreateChatCompletion"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


OPENING = PREFACE + frame(SETTINGS, 0, 0)


def opening(window_bytes: int) -> bytes:
    """The preface, and settings with the window of each stream; 0: no byte of answers is read."""
    setting = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window_bytes.to_bytes(4, "big")
    return PREFACE + frame(SETTINGS, 0, 0, setting)


def header(name: str, value: str) -> bytes:
    """A field in HPACK, literal and not indexed. Both are shorter than 127 bytes.

    Lone surrogates of the value, such as U+DCFF, stand for bytes that are not UTF-8.
    """
    text = value.encode("utf-8", "surrogateescape")
    return b"".join((b"\0", bytes([len(name)]), name.encode(), bytes([len(text)]), text))


def call(path: str = CHAT, **more: str) -> bytes:
    """The fields of a call."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "x",
        "te": "trailers",
        "content-type": "application/grpc",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return b"".join(header(name, value) for name, value in fields.items())


def message(payload: bytes, *, length: int | None = None, compressed: bool = False) -> bytes:
    """A gRPC message, which may claim another length than it has."""
    claimed = len(payload) if length is None else length
    return bytes([compressed]) + claimed.to_bytes(4, "big") + payload


def request(stream: int, path: str, payload: bytes = b"", **more: str) -> bytes:
    """A whole call with one message, which is shorter than 16 KiB."""
    head = frame(HEADERS, END_HEADERS, stream, call(path, **more))
    return head + frame(DATA, END_STREAM, stream, message(payload))


def reset_call(stream: int, path: str = CHAT, **more: str) -> bytes:
    """A call that is cancelled as soon as it is begun."""
    cancelled = frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))
    return frame(HEADERS, END_HEADERS, stream, call(path, **more)) + cancelled


def connect(address: str) -> socket.socket:
    return socket.create_connection(host_and_port(address), timeout=5)


def send(address: str, *pieces: bytes) -> bytes:
    """Sends as much as is taken, then reads until the end or until there is silence."""
    with connect(address) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
        except OSError:  # it was closed or does not read on, which is its right
            pass
        return received(client)


def received(client: socket.socket) -> bytes:
    client.settimeout(0.2)
    answer = b""
    try:
        while piece := client.recv(64 << 10):
            answer += piece
    except OSError:
        pass
    return answer


def frames(answer: bytes) -> Iterator[tuple[int, int]]:
    """The kind and the flags of each whole frame."""
    at = 0
    while at + 9 <= len(answer):
        yield answer[at + 3], answer[at + 4]
        at += 9 + int.from_bytes(answer[at : at + 3], "big")
