"""What the answers to chats and completions have in common.

A whole answer is its streamed pieces joined, so the two cannot differ.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta
from rapport.service.interceptors.transcript import Transcript
from rapport.service.response.choices import ChoiceWriter
from rapport.service.response.usage import metrics_of, usage_of
from rapport.v1.chat_pb2 import ChoiceDelta, StreamChatCompletionResponse
from rapport.v1.completion_pb2 import StreamCompletionResponse
from rapport.v1.usage_pb2 import PerfMetrics

# With log probabilities so many tokens take one or two hundredths of a second.
MAX_TOKENS_PER_TURN = 256
"""Tokens that are written before other tasks have their turn, however many have gathered."""

Source = Generation | GenerationBatch
Piece = TypeVar("Piece", StreamChatCompletionResponse, StreamCompletionResponse)


@dataclass(slots=True)
class AnswerBuilder(ABC, Generic[Piece]):
    """Builds one answer. Its id and time are on all pieces.

    `with_metrics` and `separate_usage` say what the request wants beside the choices.
    `arrived_at` is of the monotonic clock.
    """

    model: str
    writers: list[ChoiceWriter]
    """Of all choices: as many for each prompt, those of the first one first."""
    prompts: int = 1
    with_metrics: bool = False
    separate_usage: bool = False
    """In a stream, usage has a piece of its own instead of coming with the last finish reason."""
    arrived_at: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: int = field(default_factory=lambda: int(time.time()))  # noqa: TID251 - a date
    transcript: Transcript = field(default_factory=Transcript)
    _opened: set[int] = field(default_factory=set)
    """The places of the prompts whose choices have begun."""

    async def stream(self, source: Source) -> AsyncGenerator[Piece]:
        """The answer as it is generated: choices piece by piece, and usage at the end."""
        blank = self._blank_piece()
        unfinished = len(self.writers)
        async for choice in self._choices(source):
            piece = type(blank)()
            # Copying what all pieces have in common is cheaper than constructing each.
            piece.CopyFrom(blank)
            self._add_choice(piece, choice)
            unfinished -= choice.finish_reason != 0
            if not unfinished and not self.separate_usage:
                self._add_usage(piece, source)
            yield piece
        if self.separate_usage:
            self._add_usage(blank, source)
            yield blank

    def metrics(self, source: Source) -> PerfMetrics:
        """How the request ran until now."""
        return metrics_of(source, self.arrived_at)

    @abstractmethod
    def _blank_piece(self) -> Piece:
        """What all pieces have in common."""

    @abstractmethod
    def _add_choice(self, piece: Piece, choice: ChoiceDelta) -> None:
        """Adds what is new of a choice to a piece."""

    async def _choices(self, source: Source) -> AsyncGenerator[ChoiceDelta]:
        """What is added to choices. Other tasks have their turn, even if nothing is awaited."""
        tokens = 0
        async for delta in source:
            for choice in self._open(delta.index, source):
                yield choice
                await asyncio.sleep(0)
            for choice in self._write(delta):
                yield choice
            tokens += len(delta.token_ids)
            if tokens >= MAX_TOKENS_PER_TURN:
                tokens = 0
                await asyncio.sleep(0)

    def _open(self, index: int, source: Source) -> Iterator[ChoiceDelta]:
        """What comes before the model's text in the choices of a prompt, if it has not come."""
        n = len(self.writers) // self.prompts
        prompt = index // n
        if prompt not in self._opened:
            self._opened.add(prompt)
            for writer in self.writers[prompt * n : (prompt + 1) * n]:
                yield from writer.open(source.prompt_logprobs_of(prompt))

    def _write(self, delta: Delta) -> Iterator[ChoiceDelta]:
        self.transcript.add(delta)
        for piece in self.writers[delta.index].write(delta):
            if piece.finish_reason:
                self.transcript.end(piece.index, piece.finish_reason)
            yield piece

    def _add_usage(self, response: Any, source: Source) -> None:
        response.usage.CopyFrom(usage_of(source))
        if self.with_metrics:
            response.perf_metrics.CopyFrom(self.metrics(source))
