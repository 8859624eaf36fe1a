"""Answers over REST that nobody reads."""

from __future__ import annotations

import time
from typing import Any

from tests.contract.callers import chat
from tests.hostile.attacks.connections import connections, post, send_all
from tests.hostile.attacks.pipelining import HEALTH

# More than the kernel's buffers take ahead.
LONG: dict[str, Any] = {"max_tokens": 2000, "ignore_eos": True, "logprobs": True, "top_logprobs": 5}


def unread_answers(rest: str, key: str, *, count: int, seconds: float, stream: bool) -> None:
    """Long answers, whole or streamed, to connections that do not read."""
    with connections(rest, count, narrow=True) as clients:
        send_all(clients, post(chat(stream=stream, **LONG), key=key))
        time.sleep(seconds)


def unread_pages(rest: str, *, count: int, pages: int, seconds: float) -> None:
    """Several of the largest page on each connection, unread."""
    page = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with connections(rest, count, narrow=True) as clients:
        send_all(clients, page * pages)
        time.sleep(seconds)


def crowd(rest: str, *, count: int, seconds: float) -> None:
    """A request for the health on each of many connections at once."""
    with connections(rest, count) as clients:
        send_all(clients, HEALTH)
        time.sleep(seconds)
