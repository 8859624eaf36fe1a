"""Callers without a valid key."""

from __future__ import annotations

from tests.contract.callers import chat
from tests.hostile.attacks.connections import connections, post, send_all


def wrong_keys(rest: str, *, count: int, size_bytes: int, seed: int) -> None:
    """Requests of so many bytes with keys that nobody has."""
    text = "x" * size_bytes
    with connections(rest, count) as clients:
        for number, client in enumerate(clients):
            send_all([client], post(chat(text), key=f"rk-{seed}-{number}"))
        for client in clients:
            client.recv(1 << 12)


def two_keys(rest: str, key: str, *, count: int) -> None:
    """Requests with a valid and a wrong key at once, and keys in trailers."""
    chunked = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"transfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n"
        b"2\r\n{}\r\n0\r\nauthorization: Bearer %b\r\nx-request-id: stolen\r\n\r\n"
    ) % key.encode()
    both = post(chat(), key=key).replace(b"\r\n", b"\r\nauthorization: Bearer wrong\r\n", 1)
    for data in (chunked, both):
        with connections(rest, count) as clients:
            send_all(clients, data)
            for client in clients:
                client.recv(1 << 12)
