"""Callers with a valid key that do not read their answers, or read them slowly."""

from __future__ import annotations

from tests.hostile.attacked import Attacked
from tests.hostile.attacks import rpcs, unread

# Twice as many answers as there are slots.
COUNT = 8


def test_unread_over_rest(attacked: Attacked) -> None:
    """Answers that nobody reads, streamed and whole."""
    key = attacked.keys["greedy"]
    with attacked.beside():
        for stream in (True, False):
            unread.unread_answers(attacked.rest, key, count=COUNT, seconds=1, stream=stream)


def test_unread_over_grpc(attacked: Attacked) -> None:
    """The same into windows of 0 bytes, and into windows that open a byte at a time."""
    key = attacked.keys["greedy"]
    with attacked.beside():
        for stream in (True, False):
            rpcs.unread_chats(attacked.grpc, key, calls=COUNT, seconds=1, stream=stream)
        rpcs.trickle(attacked.grpc, key, calls=COUNT, seconds=1)
