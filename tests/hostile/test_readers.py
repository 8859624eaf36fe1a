"""Callers with a valid key that do not read their answers, or read them slowly."""

from __future__ import annotations

from tests.contract.callers import chat, to_proto
from tests.hostile.attacked import Attacked, wait_until
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
    key, payload = attacked.keys["greedy"], to_proto(chat(**unread.LONG)).SerializeToString()

    def ended() -> float:
        return attacked.sums()["rapport_stuck_readers_total"]

    before = ended()
    with attacked.beside():
        with rpcs.held_calls(
            attacked.grpc, key, path=rpcs.STREAM_CHAT, payload=payload, calls=COUNT
        ):
            wait_until(lambda: ended() - before >= COUNT, "all streams are ended")
        rpcs.unread_chats(attacked.grpc, key, calls=COUNT, seconds=1, stream=False)
        rpcs.trickle(attacked.grpc, key, calls=COUNT, seconds=1)
