"""Builds the completions of prompts from what the engine generates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.interceptors.context import RequestContext
from rapport.service.request.completion import CompletionRequest
from rapport.service.response.answer_builder import AnswerBuilder
from rapport.service.response.choices import ChoiceWriter, Echo, TextWriter
from rapport.service.response.logprobs import logprobs_writer
from rapport.v1.chat_pb2 import ChoiceDelta
from rapport.v1.completion_pb2 import (
    CompletionChoice,
    CreateCompletionResponse,
    StreamCompletionResponse,
)

OBJECT = "text_completion"


@dataclass(slots=True)
class CompletionBuilder(AnswerBuilder[StreamCompletionResponse]):
    """Builds the answer to a request for completions."""

    async def build(self, batch: GenerationBatch) -> CreateCompletionResponse:
        """The answer in one message."""
        response = CreateCompletionResponse(
            id=self.id, object=OBJECT, created=self.created, model=self.model
        )
        for index in range(len(self.writers)):
            response.choices.add(index=index)
        texts: list[list[str]] = [[] for _ in self.writers]
        async for choice in self._choices(batch):
            piece = _to_choice(choice)
            texts[piece.index].append(piece.text)
            piece.text = ""
            response.choices[piece.index].MergeFrom(piece)
        for whole, parts in zip(response.choices, texts, strict=True):
            whole.text = "".join(parts)
        self._add_usage(response, batch)
        return response

    def _blank_piece(self) -> StreamCompletionResponse:
        return StreamCompletionResponse(
            id=self.id, object=OBJECT, created=self.created, model=self.model
        )

    def _add_choice(self, piece: StreamCompletionResponse, choice: ChoiceDelta) -> None:
        piece.choices.append(_to_choice(choice))


def completion_builder(
    request: CompletionRequest,
    prompts: Sequence[tuple[int, ...]],
    vocabulary: Vocabulary,
    context: RequestContext,
) -> CompletionBuilder:
    """The builder of the answer to a request, with a writer for each choice of each prompt."""
    output = request.output
    # All choices of a prompt share its text, which may be that of the whole context.
    echoes = [Echo(request, prompt, vocabulary) for prompt in prompts]
    choices = [echo for echo in echoes for _ in range(request.n)]
    writers = [
        ChoiceWriter(
            index,
            TextWriter(),
            echo=echo,
            logprobs=logprobs_writer(request.logprobs, vocabulary.token_bytes),
            prompt=echo.prompt if output.token_ids else (),
            with_tokens=output.token_ids,
            with_role=False,
        )
        for index, echo in enumerate(choices)
    ]
    return CompletionBuilder(
        model=request.model,
        writers=writers,
        prompts=len(prompts),
        with_metrics=output.perf_metrics,
        separate_usage=output.separate_usage,
        arrived_at=context.arrived_at,
        transcript=context.transcript,
    )


def _to_choice(piece: ChoiceDelta) -> CompletionChoice:
    return CompletionChoice(
        index=piece.index,
        text=piece.delta.content,
        finish_reason=piece.finish_reason,
        logprobs=piece.logprobs if piece.HasField("logprobs") else None,
        token_ids=piece.token_ids,
        prompt_token_ids=piece.prompt_token_ids,
    )
