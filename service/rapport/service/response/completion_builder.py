"""Builds the completions of prompts, whole or streamed, from what the engine generates."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field

from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.request import Delta
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.transcript import Transcript
from rapport.service.request.completion import CompletionRequest
from rapport.service.request.generation import RequestTokens
from rapport.service.response.choices import ChoiceWriter, TextWriter, echo_text
from rapport.service.response.logprobs import logprobs_writer
from rapport.service.response.turns import yielding_to_others
from rapport.service.response.usage import metrics_of, usage_of
from rapport.v1.chat_pb2 import ChoiceDelta
from rapport.v1.completion_pb2 import (
    CompletionChoice,
    CreateCompletionResponse,
    StreamCompletionResponse,
)

OBJECT = "text_completion"


@dataclass(slots=True)
class CompletionBuilder:
    """Builds one answer, of `writers` for all choices and the prompt's tokens for each of them."""

    model: str
    writers: list[ChoiceWriter]
    prompts: list[tuple[int, ...]]
    """The tokens to return, by choice; empty where they were not asked for."""
    with_metrics: bool = False
    separate_usage: bool = False
    """In a stream, usage has a piece of its own instead of coming with the last finish reason."""
    arrived_at: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: int = field(default_factory=lambda: int(time.time()))  # noqa: TID251 - a date
    transcript: Transcript = field(default_factory=Transcript)
    _opened: bool = False

    async def build(self, batch: GenerationBatch) -> CreateCompletionResponse:
        """The answer in one message."""
        response = CreateCompletionResponse(
            id=self.id, object=OBJECT, created=self.created, model=self.model
        )
        for index in range(len(self.writers)):
            response.choices.add(index=index)
        texts: list[list[str]] = [[] for _ in self.writers]
        async for delta in yielding_to_others(batch):
            for piece in self._write(delta):
                texts[piece.index].append(piece.text)
                piece.text = ""
                response.choices[piece.index].MergeFrom(piece)
        for choice, parts in zip(response.choices, texts, strict=True):
            choice.text = "".join(parts)
        self._add_usage(response, batch)
        return response

    async def stream(self, batch: GenerationBatch) -> AsyncGenerator[StreamCompletionResponse]:
        """The answer as it is generated: texts, finish reasons, and usage at the end."""
        unfinished = len(self.writers)
        async for delta in batch:
            for choice in self._write(delta):
                piece = self._blank_piece()
                piece.choices.append(choice)
                unfinished -= choice.finish_reason != 0
                if not unfinished and not self.separate_usage:
                    self._add_usage(piece, batch)
                yield piece
        if self.separate_usage:
            piece = self._blank_piece()
            self._add_usage(piece, batch)
            yield piece

    def _write(self, delta: Delta) -> Iterator[CompletionChoice]:
        if not self._opened:
            self._opened = True
            for writer, prompt in zip(self.writers, self.prompts, strict=True):
                yield from _opening(writer, prompt)
        self.transcript.add(delta)
        for piece in self.writers[delta.index].write(delta):
            if piece.finish_reason:
                self.transcript.end(piece.index, piece.finish_reason)
            yield _to_choice(piece)

    def _add_usage(
        self, response: CreateCompletionResponse | StreamCompletionResponse, batch: GenerationBatch
    ) -> None:
        response.usage.CopyFrom(usage_of(batch))
        if self.with_metrics:
            response.perf_metrics.CopyFrom(metrics_of(batch, self.arrived_at))

    def _blank_piece(self) -> StreamCompletionResponse:
        return StreamCompletionResponse(
            id=self.id, object=OBJECT, created=self.created, model=self.model
        )


def completion_builder(
    request: CompletionRequest,
    prompts: Sequence[RequestTokens],
    vocabulary: Vocabulary,
    context: RequestContext,
) -> CompletionBuilder:
    """The builder of the answer to a request, with a writer for each choice of each prompt."""
    output = request.output
    # All choices of a prompt share its text, which may be that of the whole context.
    echoes = [(tokens.prompt, echo_text(output, tokens.prompt, vocabulary)) for tokens in prompts]
    choices = [echo for echo in echoes for _ in range(request.n)]
    writers = [
        ChoiceWriter(
            index,
            TextWriter(),
            echo=echo,
            logprobs=logprobs_writer(request.logprobs, vocabulary, 0),
            with_tokens=output.token_ids,
        )
        for index, (_, echo) in enumerate(choices)
    ]
    return CompletionBuilder(
        model=request.model,
        writers=writers,
        prompts=[prompt if output.token_ids else () for prompt, _ in choices],
        with_metrics=output.perf_metrics,
        separate_usage=output.separate_usage,
        arrived_at=context.arrived_at,
        transcript=context.transcript,
    )


def _opening(writer: ChoiceWriter, prompt: tuple[int, ...]) -> Iterator[CompletionChoice]:
    """What comes before the model's own text: the prompt's tokens, and its text."""
    role, *echo = map(_to_choice, writer.open())
    first, *_ = echo or [role]
    first.prompt_token_ids.extend(prompt)
    if echo or prompt:
        yield first


def _to_choice(piece: ChoiceDelta) -> CompletionChoice:
    return CompletionChoice(
        index=piece.index,
        text=piece.delta.content,
        finish_reason=piece.finish_reason,
        logprobs=piece.logprobs if piece.HasField("logprobs") else None,
        token_ids=piece.token_ids,
    )
