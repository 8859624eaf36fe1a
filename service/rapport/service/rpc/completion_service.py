"""CompletionService: completions of prompts, without a chat template."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from rapport.common.fair_threads import FairThreads, Steps
from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import GenerationRequest
from rapport.service.interceptors import context as request_context
from rapport.service.interceptors.context import GrpcContext
from rapport.service.lifecycle import Lifecycle, ServedModel
from rapport.service.request.completion import CompletionRequest, parse_completion_request
from rapport.service.request.generation import (
    Defaults,
    RequestTokens,
    build_generation_request,
    compile_grammar,
    tokenize_prompts,
)
from rapport.service.request.limits import check_sizes
from rapport.service.response.completion_builder import CompletionBuilder, completion_builder
from rapport.service.response.usage import metrics_of
from rapport.service.rpc.response_headers import (
    PROMPT_TOKENS,
    metrics_headers,
    prompt_headers,
    sampling_headers,
    unenforced_headers,
)
from rapport.v1.completion_pb2 import (
    CreateCompletionRequest,
    CreateCompletionResponse,
    StreamCompletionResponse,
)
from rapport.v1.completion_pb2_grpc import CompletionServiceServicer


class CompletionService(CompletionServiceServicer):
    """The completion RPCs. As those for chat, they cancel what runs on every way out."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        defaults: Defaults,
        threads: FairThreads,
        *,
        log_content: bool = False,
    ) -> None:
        """Takes the threads in which requests are parsed and tokenized."""
        self._lifecycle = lifecycle
        self._defaults = defaults
        self._log_content = log_content
        self._threads = threads

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
        read = self._read(request, served, streaming=streaming)
        with served.engine.reserve_place(context.tenant):
            parsed, prompts = await self._threads.run_steps(context.caller, read)
            wanted = await compile_grammar(parsed, b"", served.formats, context.caller)
        context.add_headers_and_trailers(unenforced_headers(wanted.unenforced))
        if self._log_content:
            context.transcript.keep_prompts(
                served.engine.vocabulary.decode(tokens.prompt) for tokens in prompts
            )
        requests = [
            build_generation_request(parsed, tokens, wanted.grammar, self._defaults, context.tenant)
            for tokens in prompts
        ]
        if self._defaults.model_sampling:
            context.response_headers.update(sampling_headers(parsed.sampling))
        slots = served.engine.occupancy().slots
        batch = GenerationBatch(requests, self._submit, max(1, slots // parsed.n))
        return batch, completion_builder(parsed, prompts, served.engine.vocabulary, context)

    def _read(
        self, request: CreateCompletionRequest, served: ServedModel, *, streaming: bool
    ) -> Steps[tuple[CompletionRequest, list[RequestTokens]]]:
        served.check_name(request.model)
        parsed = parse_completion_request(
            request,
            vocabulary_size=served.engine.vocabulary.size,
            streaming=streaming,
            sampling_defaults=self._defaults.sampling(served),
        )
        yield
        prompts = yield from tokenize_prompts(parsed, served, self._defaults)
        return parsed, prompts

    def _submit(self, request: GenerationRequest) -> Generation:
        return self._lifecycle.served.engine.submit(request)
