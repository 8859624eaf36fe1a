"""What the engine generates to the messages of an answer, whole or in pieces.

The whole answer is its pieces put together, so the two cannot differ.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta
from rapport.service.interceptors.transcript import Transcript
from rapport.service.response.choices import ChoiceJoiner, ChoiceWriter
from rapport.v1.chat_pb2 import (
    ChoiceDelta,
    CreateChatCompletionResponse,
    StreamChatCompletionResponse,
)
from rapport.v1.usage_pb2 import PerfMetrics, PromptTokensDetails, Usage

# With log probabilities so many tokens take a hundredth of a second or two.
UNBROKEN = 256
"""Tokens that are put together before others have their turn, however many have gathered."""


@dataclass(slots=True)
class Answer:
    """One answer. Its id and time of arrival are on all pieces.

    `prompt_token_ids` and `with_metrics` say what was asked for beside the choices.
    """

    model: str
    writers: list[ChoiceWriter]
    prompt_token_ids: tuple[int, ...] = ()
    with_metrics: bool = False
    arrived: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: int = field(default_factory=lambda: int(time.time()))  # noqa: TID251 - a date
    transcript: Transcript = field(default_factory=Transcript)
    _begun: bool = False

    async def whole(self, generation: Generation) -> CreateChatCompletionResponse:
        """The answer in one message."""
        # Its choices grow in their place: to put them there at the end is to copy all at once.
        whole = CreateChatCompletionResponse(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.model,
            prompt_token_ids=self.prompt_token_ids,
        )
        joiners = [ChoiceJoiner(whole.choices.add(index=i)) for i in range(len(self.writers))]
        async for delta in _in_turns(generation):
            for piece in self._written(delta):
                joiners[piece.index].add(piece)
        for joiner in joiners:
            joiner.end()
        self._account(whole, generation)
        return whole

    async def pieces(
        self, generation: Generation, *, usage_apart: bool
    ) -> AsyncGenerator[StreamChatCompletionResponse]:
        """The answer as it comes: roles, what is said, finish reasons, and usage on the last piece.

        `usage_apart` gives usage a piece of its own instead of the last finish reason's.
        """
        blank = self._blank()
        unfinished = len(self.writers)
        prompt = self.prompt_token_ids
        async for delta in generation:
            for choice in self._written(delta):
                piece = StreamChatCompletionResponse()
                piece.CopyFrom(blank)
                piece.choices.append(choice)
                piece.prompt_token_ids.extend(prompt)
                prompt = ()
                unfinished -= choice.finish_reason != 0
                if not unfinished and not usage_apart:
                    self._account(piece, generation)
                yield piece
        if usage_apart:
            self._account(blank, generation)
            yield blank

    def metrics(self, generation: Generation) -> PerfMetrics:
        """How the request ran, up to now."""
        drafted = generation.drafted_tokens
        first_token_at = generation.first_token_at
        return PerfMetrics(
            prompt_tokens=len(generation.request.prompt),
            cached_prompt_tokens=generation.cached_tokens,
            server_time_to_first_token=0.0
            if first_token_at is None
            else first_token_at - self.arrived,
            server_processing_time=time.monotonic() - self.arrived,
            speculation_acceptance=generation.accepted_tokens / drafted if drafted else None,
        )

    def _written(self, delta: Delta) -> Iterator[ChoiceDelta]:
        if not self._begun:
            self._begun = True
            for writer in self.writers:
                yield from writer.open()
        self.transcript.add(delta)
        for piece in self.writers[delta.index].write(delta):
            if piece.finish_reason:
                self.transcript.end(piece.index, piece.finish_reason)
            yield piece

    def _account(
        self,
        piece: CreateChatCompletionResponse | StreamChatCompletionResponse,
        generation: Generation,
    ) -> None:
        piece.usage.CopyFrom(usage_of(generation))
        if self.with_metrics:
            piece.perf_metrics.CopyFrom(self.metrics(generation))

    def _blank(self) -> StreamChatCompletionResponse:
        """What all pieces have; to copy it is cheaper than to make it again."""
        return StreamChatCompletionResponse(
            id=self.id, object="chat.completion.chunk", created=self.created, model=self.model
        )


async def _in_turns(generation: Generation) -> AsyncGenerator[Delta]:
    """The deltas; between some, others have their turn, also where nothing is waited for."""
    unbroken = 0
    async for delta in generation:
        yield delta
        unbroken += len(delta.token_ids)
        if unbroken >= UNBROKEN:
            unbroken = 0
            await asyncio.sleep(0)


def usage_of(generation: Generation) -> Usage:
    """What was used so far; the prompt counts once however many choices there are."""
    prompt = len(generation.request.prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=generation.completion_tokens,
        total_tokens=prompt + generation.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=generation.cached_tokens),
    )
