"""Turns the messages of a request into the tokens that the model continues."""

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

Tokenize = Callable[[Conversation], list[int]]


class PromptEncoder:
    """Encodes conversations for one model. A long conversation takes some tenths of a second."""

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary, context_length: int) -> None:
        self._template = template
        self._vocabulary = vocabulary
        self._safe_tokenizer = SafeTokenizer(vocabulary)
        self._context_length = context_length
        self._max_token_bytes = max(map(len, vocabulary.token_bytes))

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary, context_length: int) -> PromptEncoder:
        """Reads the chat template of a model folder."""
        return cls(ChatTemplate.read(folder), vocabulary, context_length)

    def encode(
        self,
        messages: Iterable[ChatMessage],
        *,
        tools: Sequence[JsonObject] = (),
        max_tokens: int | None = None,
        safe: bool = True,
    ) -> tuple[int, ...]:
        """The tokens of a conversation up to where the answer begins.

        Args:
            messages: The validated messages of a request.
            tools: The definitions of the tools. The template renders them, or else they are
                described in the system prompt.
            max_tokens: Earlier messages are dropped until the prompt is no longer than this.
            safe: Whether texts of messages must not become special tokens.

        Raises:
            PromptTooLongError: the prompt is so long that its tokens are not even counted.
            InvalidRequestError: the template refuses the conversation.
        """
        turns = [to_turn(message) for message in messages]
        tokenize = self._tokenize_safely if safe else self._tokenize
        converse = self._converse(tools)
        if max_tokens is not None:
            turns = evict(turns, max_tokens, lambda kept: self._count(converse(kept), tokenize))
        conversation = converse(turns)
        if (fewest := self._min_tokens(conversation)) > self._context_length:
            raise PromptTooLongError(fewest, self._context_length)
        return tuple(tokenize(conversation))

    def _converse(self, tools: Sequence[JsonObject]) -> Callable[[Sequence[Turn]], Conversation]:
        """A function that makes a conversation with these tools of turns."""
        template = self._template
        if template.takes_tools:
            return lambda turns: Conversation(turns, tools)
        if not tools:
            return lambda turns: Conversation(list(with_results(turns)))
        text = hermes_format.instructions(tools)

        def converse(turns: Sequence[Turn]) -> Conversation:
            instructed = with_instructions(turns, text, lambda: template.system_prompt)
            return Conversation(list(with_results(instructed)))

        return converse

    def _tokenize_safely(self, conversation: Conversation) -> list[int]:
        return self._safe_tokenizer.tokenize(conversation, self._template.render)

    def _tokenize(self, conversation: Conversation) -> list[int]:
        return self._vocabulary.encode(self._template.render(conversation))

    def _count(self, conversation: Conversation, tokenize: Tokenize) -> int:
        fewest = self._min_tokens(conversation)
        return fewest if fewest > self._context_length else len(tokenize(conversation))

    def _min_tokens(self, conversation: Conversation) -> int:
        """A number of tokens that the conversation has at least, without tokenizing it."""
        return max(len(conversation.turns), conversation.length // self._max_token_bytes)
