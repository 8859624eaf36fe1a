"""Callers that leave at any moment."""

from __future__ import annotations

import random
import socket
import struct
import time

import grpc as grpc_library

from tests.contract.callers import Grpc, chat, to_proto
from tests.hostile.attacks.connections import connect, post

MAX_STAY_S = 0.3
RESET = struct.pack("ii", 1, 0)


def leave_rest(rest: str, key: str, *, count: int, seed: int) -> None:
    """Sends some or all of a request, waits, and closes or resets the connection."""
    choice = random.Random(seed)  # noqa: S311 - moments, not secrets
    for _ in range(count):
        body = chat(max_tokens=200, stream=choice.random() < 1 / 2, n=choice.randint(1, 3))
        data = post(body, key=key)
        with connect(rest) as client:
            client.sendall(data[: choice.choice([len(data), choice.randrange(len(data))])])
            time.sleep(choice.uniform(0, MAX_STAY_S))
            if choice.random() < 1 / 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def leave_grpc(grpc: str, key: str, *, count: int, seed: int) -> None:
    """Begins streams, and cancels them or lets their deadlines pass."""
    choice = random.Random(seed)  # noqa: S311 - moments, not secrets
    with grpc_library.insecure_channel(grpc) as channel:
        for _ in range(count):
            stream = Grpc(channel).stub.StreamChatCompletion(
                to_proto(chat(max_tokens=200)),  # type: ignore[arg-type]
                metadata=(("authorization", f"Bearer {key}"),),
                timeout=choice.uniform(0.001, 1),
            )
            time.sleep(choice.uniform(0, MAX_STAY_S))
            stream.cancel()
