"""Pieces of an answer put together, as for an answer in one message."""

from __future__ import annotations

from collections.abc import Iterable

from rapport.service.response.choices import ChoiceJoiner
from rapport.v1.chat_pb2 import Choice, ChoiceDelta


def joined(index: int, pieces: Iterable[ChoiceDelta]) -> Choice:
    """The choice that the pieces of this index make together."""
    choice = Choice(index=index)
    joiner = ChoiceJoiner(choice)
    for piece in pieces:
        if piece.index == index:
            joiner.add(piece)
    joiner.end()
    return choice
