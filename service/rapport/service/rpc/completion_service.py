"""CompletionService: completions of prompts, without a chat template."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from rapport.common.fair_threads import Steps
from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.interceptors import context as request_context
from rapport.service.interceptors.context import GrpcContext
from rapport.service.interceptors.transcript import MAX_CHARS
from rapport.service.lifecycle import ServedModel
from rapport.service.request.completion import CompletionRequest, parse_completion_request
from rapport.service.request.generation import tokenize_prompts
from rapport.service.request.limits import check_sizes
from rapport.service.response.completion_builder import CompletionBuilder, completion_builder
from rapport.service.response.usage import metrics_of
from rapport.service.rpc.response_headers import PROMPT_TOKENS, metrics_headers, prompt_headers
from rapport.service.rpc.text_service import ReadRequest, TextService
from rapport.v1.completion_pb2 import (
    CompletionPrompt,
    CreateCompletionRequest,
    CreateCompletionResponse,
    StreamCompletionResponse,
)
from rapport.v1.completion_pb2_grpc import CompletionServiceServicer


class CompletionService(TextService, CompletionServiceServicer):
    """The completion RPCs. As those for chat, they cancel what runs on every way out."""

    async def CreateCompletion(  # noqa: N802 - named by the proto
        self, request: CreateCompletionRequest, _context: GrpcContext
    ) -> CreateCompletionResponse:
        batch, builder = await self._prepare(request, streaming=False)
        async with batch:
            context = request_context.current()
            context.set_generation(batch)
            response = await builder.build(batch)
            context.response_headers.update(metrics_headers(metrics_of(batch, context.arrived_at)))
            return response

    async def StreamCompletion(  # noqa: N802
        self, request: CreateCompletionRequest, _context: GrpcContext
    ) -> AsyncGenerator[StreamCompletionResponse]:
        batch, builder = await self._prepare(request, streaming=True)
        async with batch, aclosing(builder.stream(batch)) as pieces:
            context = request_context.current()
            context.set_generation(batch)
            async for piece in pieces:
                # How much of a prompt was cached is known only with the first piece.
                if PROMPT_TOKENS not in context.response_headers:
                    metrics = metrics_of(batch, context.arrived_at)
                    context.response_headers.update(prompt_headers(metrics))
                yield piece

    async def _prepare(
        self, request: CreateCompletionRequest, *, streaming: bool
    ) -> tuple[GenerationBatch, CompletionBuilder]:
        """Parses and tokenizes a request, and compiles its grammar."""
        context = request_context.current()
        check_sizes(request)
        served = self._lifecycle.served
        vocabulary = served.engine.vocabulary
        if self._log_content:
            context.transcript.keep_prompts(_texts(request.prompt, vocabulary))
        steps = self._read(request, served, streaming=streaming)
        parsed, prepared = await self._generation_requests(context, served, steps)
        slots = served.engine.occupancy().slots
        batch = GenerationBatch(prepared, self._submit, max(1, slots // parsed.n))
        prompts = [each.prompt for each in prepared]
        return batch, completion_builder(parsed, prompts, vocabulary, context)

    def _read(
        self, request: CreateCompletionRequest, served: ServedModel, *, streaming: bool
    ) -> Steps[tuple[CompletionRequest, ReadRequest]]:
        served.check_name(request.model)
        parsed = parse_completion_request(
            request,
            vocabulary_size=served.engine.vocabulary.size,
            streaming=streaming,
            sampling_defaults=self._defaults.sampling(served),
        )
        yield False
        return parsed, ReadRequest((yield from tokenize_prompts(parsed, served, self._defaults)))


def _texts(prompt: CompletionPrompt, vocabulary: Vocabulary) -> Iterator[str]:
    """What of the prompts can be kept, though they may yet be refused."""
    yield from [prompt.text] if prompt.text else prompt.texts.items
    for tokens in (prompt.token_ids, *prompt.token_lists.items):
        known = (token for token in tokens.items[:MAX_CHARS] if 0 <= token < vocabulary.size)
        if tokens.items:
            yield vocabulary.decode([*known])
