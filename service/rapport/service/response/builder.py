"""Builds the messages of an answer, whole or streamed, from what the engine generates.

A whole answer is its streamed pieces joined, so the two cannot differ.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, GenerationRequest
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.transcript import Transcript
from rapport.service.request.parse import ChatRequest
from rapport.service.response.choices import (
    ChoiceJoiner,
    ChoiceWriter,
    MessageWriter,
    RawOutputWriter,
    TextWriter,
    echo_text,
)
from rapport.service.response.logprobs import logprobs_writer
from rapport.service.response.tool_call_writer import ToolCallWriter
from rapport.service.response.turns import yielding_to_others
from rapport.service.response.usage import metrics_of, usage_of
from rapport.service.tools.tool_choice import ToolPolicy
from rapport.v1.chat_pb2 import (
    ChoiceDelta,
    CreateChatCompletionResponse,
    StreamChatCompletionResponse,
)
from rapport.v1.usage_pb2 import PerfMetrics


@dataclass(slots=True)
class ResponseBuilder:
    """Builds one answer. Its id and time are on all pieces.

    `prompt_token_ids`, `with_metrics` and `separate_usage` say what the request wants beside the
    choices. `arrived_at` is of the monotonic clock.
    """

    model: str
    writers: list[ChoiceWriter]
    prompt_token_ids: tuple[int, ...] = ()
    with_metrics: bool = False
    separate_usage: bool = False
    """In a stream, usage has a piece of its own instead of coming with the last finish reason."""
    arrived_at: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: int = field(default_factory=lambda: int(time.time()))  # noqa: TID251 - a date
    transcript: Transcript = field(default_factory=Transcript)
    _opened: bool = False

    async def build(self, generation: Generation) -> CreateChatCompletionResponse:
        """The answer in one message."""
        # The choices grow in their place: adding them at the end would copy everything at once.
        response = CreateChatCompletionResponse(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.model,
            prompt_token_ids=self.prompt_token_ids,
        )
        joiners = [ChoiceJoiner(response.choices.add(index=i)) for i in range(len(self.writers))]
        async for delta in yielding_to_others(generation):
            for piece in self._write(delta):
                joiners[piece.index].add(piece)
        for joiner in joiners:
            joiner.end()
        self._add_usage(response, generation)
        return response

    async def stream(self, generation: Generation) -> AsyncGenerator[StreamChatCompletionResponse]:
        """The answer as it is generated: roles, deltas, finish reasons, and usage at the end."""
        blank = self._blank_piece()
        unfinished = len(self.writers)
        prompt = self.prompt_token_ids
        async for delta in generation:
            for choice in self._write(delta):
                piece = StreamChatCompletionResponse()
                piece.CopyFrom(blank)
                piece.choices.append(choice)
                piece.prompt_token_ids.extend(prompt)
                prompt = ()
                unfinished -= choice.finish_reason != 0
                if not unfinished and not self.separate_usage:
                    self._add_usage(piece, generation)
                yield piece
        if self.separate_usage:
            self._add_usage(blank, generation)
            yield blank

    def metrics(self, generation: Generation) -> PerfMetrics:
        """How the request ran until now."""
        return metrics_of(generation, self.arrived_at)

    def _write(self, delta: Delta) -> Iterator[ChoiceDelta]:
        if not self._opened:
            self._opened = True
            for writer in self.writers:
                yield from writer.open()
        self.transcript.add(delta)
        for piece in self.writers[delta.index].write(delta):
            if piece.finish_reason:
                self.transcript.end(piece.index, piece.finish_reason)
            yield piece

    def _add_usage(
        self,
        response: CreateChatCompletionResponse | StreamChatCompletionResponse,
        generation: Generation,
    ) -> None:
        response.usage.CopyFrom(usage_of(generation))
        if self.with_metrics:
            response.perf_metrics.CopyFrom(self.metrics(generation))

    def _blank_piece(self) -> StreamChatCompletionResponse:
        """What all pieces have in common. Copying it is cheaper than constructing each."""
        return StreamChatCompletionResponse(
            id=self.id, object="chat.completion.chunk", created=self.created, model=self.model
        )


def response_builder(
    request: ChatRequest,
    generation_request: GenerationRequest,
    vocabulary: Vocabulary,
    context: RequestContext,
) -> ResponseBuilder:
    """The builder of the answer to a request, with a writer for each choice."""
    prompt, output = generation_request.prompt, request.output
    echo = echo_text(output, prompt, vocabulary)
    writers = [
        ChoiceWriter(
            index,
            _message_writer(request.tools),
            echo=echo,
            logprobs=logprobs_writer(request.logprobs, vocabulary, len(echo)),
            with_tokens=output.token_ids,
            raw_output=_raw_writer(generation_request, vocabulary) if request.raw_output else None,
        )
        for index in range(request.n)
    ]
    return ResponseBuilder(
        model=request.model,
        writers=writers,
        prompt_token_ids=prompt if output.token_ids else (),
        with_metrics=output.perf_metrics,
        separate_usage=output.separate_usage,
        arrived_at=context.arrived_at,
        transcript=context.transcript,
    )


def _message_writer(tools: ToolPolicy) -> MessageWriter:
    return ToolCallWriter(tools) if tools.functions else TextWriter()


def _raw_writer(request: GenerationRequest, vocabulary: Vocabulary) -> RawOutputWriter:
    grammar = None if request.grammar is None else request.grammar.source
    return RawOutputWriter(request.prompt, vocabulary.spell, grammar)
