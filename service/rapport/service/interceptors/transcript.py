"""What was said in an RPC, as far as it is kept for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rapport.service.engine.request import Delta
from rapport.service.prompt.turns import text_of
from rapport.v1.chat_pb2 import FinishReason
from rapport.v1.message_pb2 import ChatMessage, Role

MOST_CHARACTERS = 8000
"""Kept of all messages, and of all answers; of messages the last ones, an empty one as one."""
CUT = "…"
ROLES = {number: name.removeprefix("ROLE_").lower() for name, number in Role.items()}


@dataclass(slots=True)
class Transcript:
    """Why choices ended and, once `keep` was called, what was asked and generated."""

    finish_reasons: dict[int, str] = field(default_factory=dict)
    """By a choice's index, as callers read them."""
    messages: list[dict[str, str]] | None = None
    _said: dict[int, str] | None = None
    _room: int = MOST_CHARACTERS

    @property
    def texts(self) -> list[str] | None:
        """What the model wrote, choice by choice."""
        return None if self._said is None else [self._said[index] for index in sorted(self._said)]

    def keep(self, messages: Sequence[ChatMessage]) -> None:
        """Keeps the messages, and from now on the answers."""
        self._said = {}
        last_first: list[dict[str, str]] = []
        room = MOST_CHARACTERS
        for message in reversed(messages):
            text = text_of(message.content)
            role = ROLES.get(message.role) or str(message.role)
            last_first.append({"role": role, "content": _cut(text, room)})
            room -= max(len(text), 1)
            if room <= 0:
                break
        self.messages = last_first[::-1]

    def add(self, delta: Delta) -> None:
        """Notes what a step of the engine added to a choice."""
        if self._said is None or self._room <= 0:
            return
        before = self._said.get(delta.index, "")
        self._said[delta.index] = before + _cut(delta.text, self._room)
        self._room -= len(delta.text)

    def end(self, index: int, reason: FinishReason.ValueType) -> None:
        """Notes why a choice ended."""
        name = FinishReason.Name(reason).removeprefix("FINISH_REASON_")
        self.finish_reasons[index] = name.lower()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + CUT
