"""Turns the messages of a request into the tokens that the model continues."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rapport.common.fair_threads import Steps
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError, PromptTooLongError
from rapport.service.prompt.eviction import evict
from rapport.service.prompt.pieces import Piece, PieceTokenizer
from rapport.service.prompt.safe_cutter import SafeCutter
from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.tool_prompt import with_instructions, with_results
from rapport.service.prompt.turns import Conversation, JsonObject, Turn, to_turn
from rapport.service.tools import hermes_format
from rapport.service.tools.call_format import CallFormat
from rapport.v1.message_pb2 import ROLE_USER, ChatContent, ChatMessage

# A prompt that is this much too long is not counted to its end.
MAX_EXCESS_TOKENS = 16_384

Cut = Callable[[Conversation], Iterator[Piece]]


class PromptEncoder:
    """Encodes conversations for one model, in steps of some milliseconds.

    Where a request has tools, `tool_template` takes the place of `template`, if it renders them.
    """

    def __init__(
        self,
        template: ChatTemplate,
        vocabulary: Vocabulary,
        context_length: int,
        tool_template: ChatTemplate | None = None,
    ) -> None:
        self._template = template
        self._tool_template = template
        if tool_template is not None and tool_template.takes_tools:
            self._tool_template = tool_template
        self._vocabulary = vocabulary
        self._cutter = SafeCutter(vocabulary)
        self._context_length = context_length
        self._max_token_bytes = max(map(len, vocabulary.token_bytes))

    @classmethod
    def load(cls, folder: Path, vocabulary: Vocabulary, context_length: int) -> PromptEncoder:
        """Reads the chat templates of a model folder."""
        tool_template = ChatTemplate.read(folder, with_tools=True)
        return cls(ChatTemplate.read(folder), vocabulary, context_length, tool_template)

    @property
    def call_format(self) -> CallFormat:
        """How the model writes calls."""
        return self._tool_template.call_format

    def min_prompt_tokens(self) -> int:
        """The tokens of a conversation of one short message; 0 if the template refuses it."""
        turn = to_turn(ChatMessage(role=ROLE_USER, content=ChatContent(text="a")))
        try:
            return len(self._vocabulary.encode(self._template.render(Conversation([turn]))))
        except InvalidRequestError:
            return 0

    def encode(
        self,
        messages: Iterable[ChatMessage],
        *,
        tools: Sequence[JsonObject] = (),
        max_tokens: int | None = None,
        safe: bool = True,
    ) -> Steps[tuple[int, ...]]:
        """The tokens of a conversation up to where the answer begins.

        Args:
            messages: The validated messages of a request.
            tools: The definitions of the tools. The template renders them, or else they are
                described in the system prompt.
            max_tokens: Earlier messages are dropped until the prompt is no longer than this.
            safe: Whether texts of messages must not become special tokens.

        Raises:
            PromptTooLongError: the prompt is so long that its tokens are not all counted.
            InvalidRequestError: the template refuses the conversation.
        """
        template = self._tool_template if tools else self._template
        written = None if template.writes_calls else template.call_format
        turns = [to_turn(message, written) for message in messages]
        yield False
        converse, cut = _converse(template, tools), self._cut(template, safe=safe)
        tokenizer = PieceTokenizer(self._vocabulary)

        def count(kept: Sequence[Turn], most: int) -> Steps[int]:
            conversation = converse(kept)
            if (fewest := self._min_tokens(conversation)) > self._context_length:
                return fewest
            return len((yield from tokenizer.tokenize(cut(conversation), most)))

        if max_tokens is not None:
            turns = yield from evict(turns, max_tokens, count)
        conversation = converse(turns)
        if (fewest := self._min_tokens(conversation)) > self._context_length:
            raise PromptTooLongError(fewest, self._context_length, at_least=True)
        most = self._context_length + MAX_EXCESS_TOKENS
        tokens = yield from tokenizer.tokenize(cut(conversation), most)
        if len(tokens) > most:
            raise PromptTooLongError(len(tokens), self._context_length, at_least=True)
        return tuple(tokens)

    def encode_prompt(self, text: str, field: str) -> Steps[tuple[int, ...]]:
        """The tokens of a text to continue; special tokens that it spells out are read as such.

        The prompt begins with `bos_token` where all prompts of the model do.

        Raises:
            PromptTooLongError: the prompt is so long that its tokens are not all counted.
        """
        if (fewest := len(text) // self._max_token_bytes) > self._context_length:
            raise PromptTooLongError(fewest, self._context_length, field=field, at_least=True)
        most = self._context_length + MAX_EXCESS_TOKENS
        pieces = self._cutter.unsafe_pieces(self._template.opened(text))
        tokens = yield from PieceTokenizer(self._vocabulary).tokenize(pieces, most)
        if len(tokens) > most:
            raise PromptTooLongError(len(tokens), self._context_length, field=field, at_least=True)
        return tuple(tokens)

    def encode_text(self, text: str, max_tokens: int = sys.maxsize) -> Steps[list[int]]:
        """The tokens of a text that is nothing but text: all, or `max_tokens` of the first."""
        pieces = self._cutter.plain_pieces(text)
        tokens = yield from PieceTokenizer(self._vocabulary).tokenize(pieces, max_tokens)
        return tokens[:max_tokens]

    def _cut(self, template: ChatTemplate, *, safe: bool) -> Cut:
        if safe:
            return lambda conversation: self._cutter.pieces(conversation, template.render)
        return lambda conversation: self._cutter.unsafe_pieces(template.render(conversation))

    def _min_tokens(self, conversation: Conversation) -> int:
        """A number of tokens that the conversation has at least, without tokenizing it."""
        return max(len(conversation.turns), conversation.length // self._max_token_bytes)


def _converse(
    template: ChatTemplate, tools: Sequence[JsonObject]
) -> Callable[[Sequence[Turn]], Conversation]:
    """A function that makes a conversation with these tools of turns."""
    if template.takes_tools:
        return lambda turns: Conversation(turns, tools)
    if not tools:
        return lambda turns: Conversation(list(with_results(turns)))
    text = hermes_format.instructions(tools)

    def converse(turns: Sequence[Turn]) -> Conversation:
        instructed = with_instructions(turns, text, lambda: template.system_prompt)
        return Conversation(list(with_results(instructed)))

    return converse
