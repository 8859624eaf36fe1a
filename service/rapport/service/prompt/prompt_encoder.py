"""Messages to the tokens that the model continues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import PromptTooLongError
from rapport.service.prompt.eviction import evict
from rapport.service.prompt.safe_tokenizer import SafeTokenizer
from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.tool_prompt import with_instructions, with_results
from rapport.service.prompt.turns import Conversation, JsonObject, Turn, to_turn
from rapport.service.tools import hermes_format
from rapport.v1.message_pb2 import ChatMessage

Encode = Callable[[Conversation], list[int]]


class PromptEncoder:
    """Reads conversations for one model. Long ones take a good part of a second."""

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary, context_length: int) -> None:
        self._template = template
        self._vocabulary = vocabulary
        self._encoder = SafeTokenizer(vocabulary)
        self._context_length = context_length
        self._longest_token = max(map(len, vocabulary.token_bytes))

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary, context_length: int) -> PromptEncoder:
        """Reads the template of a model folder."""
        return cls(ChatTemplate.read(folder), vocabulary, context_length)

    def read(
        self,
        messages: Iterable[ChatMessage],
        *,
        tools: Sequence[JsonObject] = (),
        most: int | None = None,
        safe: bool = True,
    ) -> tuple[int, ...]:
        """The tokens of a conversation up to where the answer begins.

        `most` is the length to which earlier messages are left out; without `safe`,
        messages may spell special tokens. Tools are told as the template does it, or
        else in the system prompt.

        Raises:
            PromptTooLongError: it is so long that counting its tokens would be a waste.
            InvalidRequestError: the template refuses it.
        """
        turns = [to_turn(message) for message in messages]
        encode = self._encode_safely if safe else self._encode_freely
        converse = self._converse(tools)
        if most is not None:
            turns = evict(turns, most, lambda kept: self._count(converse(kept), encode))
        conversation = converse(turns)
        if (least := self._fewest_tokens(conversation)) > self._context_length:
            raise PromptTooLongError(least, self._context_length)
        return tuple(encode(conversation))

    def _converse(self, tools: Sequence[JsonObject]) -> Callable[[Sequence[Turn]], Conversation]:
        """How turns become a conversation in which the tools are told."""
        template = self._template
        if template.takes_tools:
            return lambda turns: Conversation(turns, tools)
        if not tools:
            return lambda turns: Conversation(list(with_results(turns)))
        text = hermes_format.instructions(tools)

        def converse(turns: Sequence[Turn]) -> Conversation:
            told = with_instructions(turns, text, lambda: template.system_prompt)
            return Conversation(list(with_results(told)))

        return converse

    def _encode_safely(self, conversation: Conversation) -> list[int]:
        return self._encoder.encode(conversation, self._template.render)

    def _encode_freely(self, conversation: Conversation) -> list[int]:
        return self._vocabulary.encode(self._template.render(conversation))

    def _count(self, conversation: Conversation, encode: Encode) -> int:
        least = self._fewest_tokens(conversation)
        return least if least > self._context_length else len(encode(conversation))

    def _fewest_tokens(self, conversation: Conversation) -> int:
        return max(len(conversation.turns), conversation.length // self._longest_token)
