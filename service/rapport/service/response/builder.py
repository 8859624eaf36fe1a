"""Builds the messages of an answer, whole or streamed, from what the engine generates.

A whole answer is its streamed pieces joined, so the two cannot differ.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, GenerationRequest
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.transcript import Transcript
from rapport.service.request.parse import ChatRequest, OutputOptions
from rapport.service.response.choices import (
    ChoiceJoiner,
    ChoiceWriter,
    MessageWriter,
    RawOutputWriter,
    TextWriter,
)
from rapport.service.response.logprobs import logprobs_writer
from rapport.service.response.tool_call_writer import ToolCallWriter
from rapport.service.tools.tool_choice import ToolPolicy
from rapport.v1.chat_pb2 import (
    ChoiceDelta,
    CreateChatCompletionResponse,
    StreamChatCompletionResponse,
)
from rapport.v1.usage_pb2 import PerfMetrics, PromptTokensDetails, Usage

# With log probabilities so many tokens take one or two hundredths of a second.
MAX_TOKENS_PER_TURN = 256
"""Tokens that are joined before other tasks have their turn, however many have gathered."""


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
        async for delta in _yielding_to_others(generation):
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
        drafted = generation.drafted_tokens
        first_token_at = generation.first_token_at
        return PerfMetrics(
            prompt_tokens=len(generation.request.prompt),
            cached_prompt_tokens=generation.cached_tokens,
            server_time_to_first_token=0.0
            if first_token_at is None
            else first_token_at - self.arrived_at,
            server_processing_time=time.monotonic() - self.arrived_at,
            speculation_acceptance=generation.accepted_tokens / drafted if drafted else None,
        )

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
        response.usage.CopyFrom(_usage(generation))
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
    echo = _echo(output, prompt, vocabulary)
    writers = [
        ChoiceWriter(
            index,
            _message_writer(request.tools),
            echo=echo,
            logprobs=logprobs_writer(request.logprobs, vocabulary, len(echo)),
            with_tokens=output.token_ids,
            raw_output=_raw_writer(generation_request, vocabulary) if output.raw_output else None,
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


def _echo(output: OutputOptions, prompt: tuple[int, ...], vocabulary: Vocabulary) -> str:
    """The prompt or its last tokens as the model sees them, special tokens spelled out."""
    if output.echo_last:
        return vocabulary.spell(prompt[-output.echo_last :])
    return vocabulary.spell(prompt) if output.echo else ""


async def _yielding_to_others(generation: Generation) -> AsyncGenerator[Delta]:
    """The deltas. Other tasks have their turn in between, even if no delta has to be awaited."""
    tokens = 0
    async for delta in generation:
        yield delta
        tokens += len(delta.token_ids)
        if tokens >= MAX_TOKENS_PER_TURN:
            tokens = 0
            await asyncio.sleep(0)


def _usage(generation: Generation) -> Usage:
    """The tokens used until now. The prompt counts once, however many choices there are."""
    prompt = len(generation.request.prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=generation.completion_tokens,
        total_tokens=prompt + generation.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=generation.cached_tokens),
    )
