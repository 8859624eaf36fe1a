"""What the access log has of the messages and answers of an RPC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rapport.service.engine.request import Delta
from rapport.service.prompt.turns import content_text
from rapport.v1.chat_pb2 import FinishReason
from rapport.v1.message_pb2 import ChatMessage, Role

MAX_CHARS = 8000
"""How much is kept of all messages together, and of all answers together.

Of the messages the last ones are kept. An empty message counts as one character.
"""
ELLIPSIS = "…"
ROLES = {number: name.removeprefix("ROLE_").lower() for name, number in Role.items()}


@dataclass(slots=True)
class Transcript:
    """The finish reasons and, once `keep` was called, the messages and the answers."""

    finish_reasons: dict[int, str] = field(default_factory=dict)
    """By the index of the choice, in the words of the API."""
    messages: list[dict[str, str]] | None = None
    _texts: dict[int, str] | None = None
    _room: int = MAX_CHARS

    @property
    def texts(self) -> list[str] | None:
        """What the model generated, choice by choice; None unless it is kept."""
        if self._texts is None:
            return None
        return [self._texts[index] for index in sorted(self._texts)]

    def keep_prompts(self, prompts: Iterable[str]) -> None:
        """Keeps prompts and, from now on, the answers."""
        self._texts = {}
        self.messages = []
        room = MAX_CHARS
        for text in prompts:
            self.messages.append({"role": "prompt", "content": _cut(text, room)})
            room -= max(len(text), 1)
            if room <= 0:
                break

    def keep(self, messages: Sequence[ChatMessage]) -> None:
        """Keeps the messages and, from now on, the answers."""
        self._texts = {}
        last_first: list[dict[str, str]] = []
        room = MAX_CHARS
        for message in reversed(messages):
            text = content_text(message.content)
            role = ROLES.get(message.role) or str(message.role)
            last_first.append({"role": role, "content": _cut(text, room)})
            room -= max(len(text), 1)
            if room <= 0:
                break
        self.messages = last_first[::-1]

    def add(self, delta: Delta) -> None:
        """Appends what a step of the engine generated for a choice."""
        if self._texts is None or self._room <= 0:
            return
        before = self._texts.get(delta.index, "")
        self._texts[delta.index] = before + _cut(delta.text, self._room)
        self._room -= len(delta.text)

    def end(self, index: int, reason: FinishReason.ValueType) -> None:
        """Notes why a choice ended."""
        name = FinishReason.Name(reason).removeprefix("FINISH_REASON_")
        self.finish_reasons[index] = name.lower()


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else text[:max_chars] + ELLIPSIS
