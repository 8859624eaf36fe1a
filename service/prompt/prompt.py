"""Messages to the tokens that the model continues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rapport.v1.message_pb2 import ChatMessage
from service.engine.vocabulary import Vocabulary
from service.errors import PromptTooLong
from service.prompt.eviction import evict
from service.prompt.template import ChatTemplate
from service.prompt.tokens import SafeEncoder
from service.prompt.turns import Turn, turn_of


class PromptReader:
    """Reads conversations for one model. Long ones take a good part of a second."""

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary, context_length: int) -> None:
        self._template = template
        self._vocabulary = vocabulary
        self._encoder = SafeEncoder(vocabulary)
        self._context_length = context_length
        self._longest_token = max(map(len, vocabulary.token_bytes))

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary, context_length: int) -> PromptReader:
        """Reads the template of a model folder."""
        return cls(ChatTemplate.read(folder), vocabulary, context_length)

    def read(
        self, messages: Iterable[ChatMessage], *, most: int | None = None, safe: bool = True
    ) -> tuple[int, ...]:
        """The tokens of a conversation up to where the answer begins.

        `most` is the length to which earlier messages are left out; without `safe`,
        messages may spell special tokens.

        Raises:
            PromptTooLong: it is so long that counting its tokens would be a waste.
            InvalidRequest: the template refuses it.
        """
        turns = [turn_of(message) for message in messages]
        encode = self._encode_safely if safe else self._encode_freely
        if most is not None:
            turns = evict(turns, most, lambda kept: self._count(kept, encode))
        if (least := self._fewest_tokens(turns)) > self._context_length:
            raise PromptTooLong(least, self._context_length)
        return tuple(encode(turns))

    def _encode_safely(self, turns: Sequence[Turn]) -> list[int]:
        return self._encoder.encode(turns, self._template.render)

    def _encode_freely(self, turns: Sequence[Turn]) -> list[int]:
        return self._vocabulary.encode(self._template.render(turns))

    def _count(self, turns: Sequence[Turn], encode: Callable[[Sequence[Turn]], list[int]]) -> int:
        least = self._fewest_tokens(turns)
        return least if least > self._context_length else len(encode(turns))

    def _fewest_tokens(self, turns: Sequence[Turn]) -> int:
        characters = sum(len(turn.content) for turn in turns)
        return max(len(turns), characters // self._longest_token)
