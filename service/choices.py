"""The pieces of one choice, and how they join to the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from rapport.v1.chat_pb2 import Choice, ChoiceDelta, FinishReason, MessageDelta
from rapport.v1.message_pb2 import Role
from rapport.v1.usage_pb2 import RawOutput
from service.engine import request as engine
from service.logprobs import LogprobsWriter

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


def joined(index: int, pieces: Iterable[ChoiceDelta]) -> Choice:
    """The choice that the pieces of this index make together."""
    choice = Choice(index=index)
    said: list[str] = []
    for piece in pieces:
        if piece.index != index:
            continue
        if piece.delta.HasField("content"):
            said.append(piece.delta.content)
        join_calls(choice, piece.delta)
        choice.message.role = piece.delta.role or choice.message.role
        choice.finish_reason = piece.finish_reason or choice.finish_reason
        choice.token_ids.extend(piece.token_ids)
        if piece.HasField("logprobs"):
            choice.logprobs.MergeFrom(piece.logprobs)
        if piece.HasField("raw_output"):
            choice.raw_output.CopyFrom(piece.raw_output)
    if said or not choice.message.tool_calls:
        choice.message.content = "".join(said)
    return choice


def join_calls(choice: Choice, delta: MessageDelta) -> None:
    """Adds fragments of calls to the calls that they belong to."""
    calls = choice.message.tool_calls
    for fragment in delta.tool_calls:
        while len(calls) <= fragment.index:
            calls.add(index=len(calls))
        call = calls[fragment.index]
        call.id += fragment.id
        call.type = fragment.type or call.type
        call.function.name += fragment.function.name
        call.function.arguments += fragment.function.arguments
