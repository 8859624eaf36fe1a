"""Writes one choice as the pieces of a stream, and joins such pieces to the whole choice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Protocol

from rapport.service.engine import request as engine
from rapport.service.engine.sampling.logprobs import TokenLogprob
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.request.options import TextRequest
from rapport.service.response.logprobs import LogprobsWriter, logprobs_writer
from rapport.v1.chat_pb2 import Choice, ChoiceDelta, FinishReason, MessageDelta
from rapport.v1.message_pb2 import Role
from rapport.v1.tool_pb2 import ToolCallDelta
from rapport.v1.usage_pb2 import RawOutput

# So many take a few milliseconds.
MAX_ECHOED_LOGPROBS = 128
FINISH_REASONS = {
    engine.FinishReason.STOP: FinishReason.FINISH_REASON_STOP,
    engine.FinishReason.LENGTH: FinishReason.FINISH_REASON_LENGTH,
}


class MessageWriter(Protocol):
    """Writes generated text as the deltas of a message."""

    def push(self, text: str) -> Iterator[MessageDelta]:
        """The deltas that the next piece of text adds."""

    def end(self) -> Iterator[MessageDelta]:
        """The deltas of text that was held back, when no more text comes."""

    def finish_reason(self, reason: FinishReason.ValueType) -> FinishReason.ValueType:
        """Why the message ended, given why the text ended."""


class TextWriter:
    """Writes all text as the content of the message."""

    def push(self, text: str) -> Iterator[MessageDelta]:
        if text:
            yield MessageDelta(content=text)

    def end(self) -> Iterator[MessageDelta]:
        return iter(())

    def finish_reason(self, reason: FinishReason.ValueType) -> FinishReason.ValueType:
        return reason


class ChoiceWriter:
    """Writes one choice as pieces: its role, the message's deltas, and the finish reason.

    Args:
        index: its place among the choices.
        message: writes the text as deltas of the message.
        echo: what of the prompt comes before the model's text.
        logprobs: writes log probabilities, if the request wants them.
        prompt: the tokens of the prompt, if the request wants them.
        with_tokens: whether the request wants token ids.
        with_role: whether a piece with the role comes first.
        raw_output: collects prompt and completion as the model sees them, if the request wants
            them.
    """

    def __init__(
        self,
        index: int,
        message: MessageWriter,
        *,
        echo: Echo | None = None,
        logprobs: LogprobsWriter | None = None,
        prompt: Sequence[int] = (),
        with_tokens: bool = False,
        with_role: bool = True,
        raw_output: RawOutputWriter | None = None,
    ) -> None:
        self._index = index
        self._message = message
        self._echo = echo
        self._logprobs = logprobs
        self._prompt = prompt
        self._with_tokens = with_tokens
        self._with_role = with_role
        self._raw_output = raw_output
        self._pending = ChoiceDelta()
        """The next piece, with the logprobs and tokens of text that is still held back."""

    def open(self, prompt_logprobs: Sequence[TokenLogprob] = ()) -> Iterator[ChoiceDelta]:
        """The pieces that come before the model's own text.

        `prompt_logprobs` are those of the tokens that are echoed, but for the first of a prompt.
        """
        self._pending.prompt_token_ids.extend(self._prompt)
        if self._with_role:
            yield self._piece(MessageDelta(role=Role.ROLE_ASSISTANT))
        if self._echo is not None and self._echo.tokens:
            yield from self._echoed(self._echo, prompt_logprobs)
        elif self._pending.prompt_token_ids:
            yield self._piece(MessageDelta())

    def _echoed(self, echo: Echo, logprobs: Sequence[TokenLogprob]) -> Iterator[ChoiceDelta]:
        message = MessageDelta(content=echo.text)
        writer = echo.new_logprobs_writer()
        if writer is None or self._logprobs is None:
            yield self._piece(message)
            return
        self._logprobs.skip(echo.text)
        # Nothing comes before the first token of a prompt, which would make it probable.
        unscored = echo.tokens[: len(echo.tokens) - len(logprobs)]
        first = [TokenLogprob(token, math.nan, ()) for token in unscored]
        entries = [*first, *logprobs]
        for start in range(0, len(entries), MAX_ECHOED_LOGPROBS):
            writer.write(entries[start : start + MAX_ECHOED_LOGPROBS], self._pending)
            yield self._piece(message)
            message = MessageDelta()

    def write(self, delta: engine.Delta) -> Iterator[ChoiceDelta]:
        """The pieces of what a step of the engine generated."""
        self._add_tokens(delta)
        for message in self._message.push(delta.text):
            yield self._piece(message)
        if delta.finish_reason is not None:
            for message in self._message.end():
                yield self._piece(message)
            last = self._piece(MessageDelta())
            last.finish_reason = self._message.finish_reason(FINISH_REASONS[delta.finish_reason])
            if self._raw_output is not None:
                last.raw_output.CopyFrom(self._raw_output.output())
            yield last

    def _add_tokens(self, delta: engine.Delta) -> None:
        if self._with_tokens:
            self._pending.token_ids.extend(delta.token_ids)
        if self._raw_output is not None:
            self._raw_output.add(delta)
        if self._logprobs is not None:
            self._logprobs.write(delta.logprobs, self._pending)

    def _piece(self, message: MessageDelta) -> ChoiceDelta:
        piece, self._pending = self._pending, ChoiceDelta()
        piece.index = self._index
        piece.delta.CopyFrom(message)
        return piece


class RawOutputWriter:
    """Collects the prompt and the completion as the model sees them."""

    def __init__(
        self,
        prompt: Iterable[int],
        spell: Spell,
        grammar: str | None = None,
        logprobs: LogprobsWriter | None = None,
    ) -> None:
        self._prompt = tuple(prompt)
        self._spell = spell
        self._grammar = grammar
        self._logprobs = logprobs
        self._tokens: list[int] = []
        self._written = ChoiceDelta()
        """The log probabilities of the tokens."""

    def add(self, delta: engine.Delta) -> None:
        self._tokens.extend(delta.token_ids)
        if self._logprobs is not None:
            self._logprobs.write(delta.logprobs, self._written)

    def output(self) -> RawOutput:
        has_logprobs = self._written.HasField("logprobs")
        return RawOutput(
            prompt_fragments=[self._spell(self._prompt)],
            prompt_token_ids=self._prompt,
            completion=self._spell(self._tokens),
            completion_token_ids=self._tokens,
            grammar=self._grammar,
            completion_logprobs=self._written.logprobs if has_logprobs else None,
        )


class Spell(Protocol):
    """Gives the text of tokens, with special tokens spelled out."""

    def __call__(self, tokens: Iterable[int]) -> str: ...


class Echo:
    """What an answer repeats of its prompt: all, or its last tokens, or nothing."""

    def __init__(
        self, request: TextRequest, prompt: tuple[int, ...], vocabulary: Vocabulary
    ) -> None:
        self.prompt = prompt
        self.tokens = prompt[len(prompt) - request.output.echoed_tokens(len(prompt)) :]
        self._logprobs = request.logprobs
        self._vocabulary = vocabulary

    @cached_property
    def text(self) -> str:
        """The text as the model sees it, special tokens spelled out."""
        return self._vocabulary.spell(self.tokens)

    def new_logprobs_writer(self) -> LogprobsWriter | None:
        """A writer of the tokens' log probabilities, if the request wants them."""
        return logprobs_writer(self._logprobs, self._vocabulary.spelled_bytes)


class ChoiceJoiner:
    """Joins the pieces of one choice in a message as they come.

    A piece costs only what is in it: texts are joined at the end, because appending to a text
    copies all of it.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._texts: list[str] = []
        self._arguments: list[list[str]] = []
        """Fragments, by call."""

    def add(self, piece: ChoiceDelta) -> None:
        """Adds the next piece of this choice."""
        choice = self._choice
        if piece.delta.HasField("content"):
            self._texts.append(piece.delta.content)
        for fragment in piece.delta.tool_calls:
            self._add_call(fragment)
        choice.message.role = piece.delta.role or choice.message.role
        choice.finish_reason = piece.finish_reason or choice.finish_reason
        choice.token_ids.extend(piece.token_ids)
        if piece.HasField("logprobs"):
            choice.logprobs.MergeFrom(piece.logprobs)
        if piece.HasField("raw_output"):
            choice.raw_output.CopyFrom(piece.raw_output)

    def end(self) -> None:
        """Completes the choice, when no more pieces come."""
        message = self._choice.message
        for call, arguments in zip(message.tool_calls, self._arguments, strict=True):
            call.function.arguments = "".join(arguments)
        if self._texts or not message.tool_calls:
            message.content = "".join(self._texts)

    def _add_call(self, fragment: ToolCallDelta) -> None:
        calls = self._choice.message.tool_calls
        while len(calls) <= fragment.index:
            calls.add(index=len(calls))
            self._arguments.append([])
        call = calls[fragment.index]
        call.id += fragment.id
        call.type = fragment.type or call.type
        call.function.name += fragment.function.name
        self._arguments[fragment.index].append(fragment.function.arguments)
