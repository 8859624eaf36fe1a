"""The pieces of one choice, and how they join to the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from rapport.service.engine import request as engine
from rapport.service.response.logprobs import LogprobsWriter
from rapport.v1.chat_pb2 import Choice, ChoiceDelta, FinishReason, MessageDelta
from rapport.v1.message_pb2 import Role
from rapport.v1.tool_pb2 import ToolCallDelta
from rapport.v1.usage_pb2 import RawOutput

FINISH_REASONS = {
    engine.FinishReason.STOP: FinishReason.FINISH_REASON_STOP,
    engine.FinishReason.LENGTH: FinishReason.FINISH_REASON_LENGTH,
}


class Speech(Protocol):
    """Makes messages of generated text."""

    def push(self, text: str) -> Iterator[MessageDelta]:
        """What the text adds to the message."""

    def end(self) -> Iterator[MessageDelta]:
        """What was held back, now that no more text comes."""

    def finish_reason(self, reason: FinishReason.ValueType) -> FinishReason.ValueType:
        """Why the message ended, given why the text did."""


class PlainSpeech:
    """Text as it is."""

    def push(self, text: str) -> Iterator[MessageDelta]:
        if text:
            yield MessageDelta(content=text)

    def end(self) -> Iterator[MessageDelta]:
        return iter(())

    def finish_reason(self, reason: FinishReason.ValueType) -> FinishReason.ValueType:
        return reason


class ChoiceWriter:
    """Writes one choice as pieces: its role, what is said, and why it ended.

    Args:
        index: its place among the choices.
        speech: makes messages of the text.
        echo: text of the prompt that comes before the model's.
        logprobs: writes log probabilities, if they were asked for.
        with_tokens: whether token ids were asked for.
        raw: what the model saw, to be completed with what it said, if that was asked for.
    """

    def __init__(
        self,
        index: int,
        speech: Speech,
        *,
        echo: str = "",
        logprobs: LogprobsWriter | None = None,
        with_tokens: bool = False,
        raw: RawWriter | None = None,
    ) -> None:
        self._index = index
        self._speech = speech
        self._echo = echo
        self._logprobs = logprobs
        self._with_tokens = with_tokens
        self._raw = raw
        self._due = ChoiceDelta()
        """What goes with the next piece: logprobs and tokens of text that is held back."""

    def open(self) -> Iterator[ChoiceDelta]:
        """The pieces before the first of the model's own text."""
        yield self._piece(MessageDelta(role=Role.ROLE_ASSISTANT))
        if self._echo:
            yield self._piece(MessageDelta(content=self._echo))

    def write(self, delta: engine.Delta) -> Iterator[ChoiceDelta]:
        """The pieces that a step of the engine makes."""
        self._note(delta)
        for message in self._speech.push(delta.text):
            yield self._piece(message)
        if delta.finish_reason is not None:
            for message in self._speech.end():
                yield self._piece(message)
            last = self._piece(MessageDelta())
            last.finish_reason = self._speech.finish_reason(FINISH_REASONS[delta.finish_reason])
            if self._raw is not None:
                last.raw_output.CopyFrom(self._raw.output())
            yield last

    def _note(self, delta: engine.Delta) -> None:
        if self._with_tokens:
            self._due.token_ids.extend(delta.token_ids)
        if self._raw is not None:
            self._raw.add(delta.token_ids)
        if self._logprobs is not None:
            self._logprobs.write(delta.logprobs, self._due)

    def _piece(self, message: MessageDelta) -> ChoiceDelta:
        piece, self._due = self._due, ChoiceDelta()
        piece.index = self._index
        piece.delta.CopyFrom(message)
        return piece


class RawWriter:
    """The prompt and the completion as the model saw them."""

    def __init__(self, prompt: Iterable[int], spell: Spell, grammar: str | None = None) -> None:
        self._prompt = tuple(prompt)
        self._spell = spell
        self._grammar = grammar
        self._tokens: list[int] = []

    def add(self, tokens: Iterable[int]) -> None:
        self._tokens.extend(tokens)

    def output(self) -> RawOutput:
        return RawOutput(
            prompt_fragments=[self._spell(self._prompt)],
            prompt_token_ids=self._prompt,
            completion=self._spell(self._tokens),
            completion_token_ids=self._tokens,
            grammar=self._grammar,
        )


class Spell(Protocol):
    """Text of tokens, the special ones spelled out."""

    def __call__(self, tokens: Iterable[int]) -> str: ...


class ChoiceJoiner:
    """Puts the pieces of one choice together in a message as they come.

    A piece costs what is in it: texts are joined at the end, for to append to a text is to
    copy all of it.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._said: list[str] = []
        self._arguments: list[list[str]] = []
        """Of each call."""

    def add(self, piece: ChoiceDelta) -> None:
        """Takes the next piece of this choice."""
        choice = self._choice
        if piece.delta.HasField("content"):
            self._said.append(piece.delta.content)
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
        """Completes the choice, now that no more pieces come."""
        message = self._choice.message
        for call, arguments in zip(message.tool_calls, self._arguments, strict=True):
            call.function.arguments = "".join(arguments)
        if self._said or not message.tool_calls:
            message.content = "".join(self._said)

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
