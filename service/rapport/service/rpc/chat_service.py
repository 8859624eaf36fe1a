"""ChatService: chat completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from rapport.common.fair_threads import Steps
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import GenerationRequest
from rapport.service.interceptors import context as request_context
from rapport.service.lifecycle import ServedModel
from rapport.service.request.generation import key_of_tools, tokenize_request
from rapport.service.request.limits import check_sizes
from rapport.service.request.parse import ChatRequest, parse_chat_request
from rapport.service.request.tokenize import tokenize
from rapport.service.response.builder import ResponseBuilder, response_builder
from rapport.service.rpc.response_headers import PROMPT_TOKENS, metrics_headers, prompt_headers
from rapport.service.rpc.text_service import ReadRequest, TextService
from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
    CreateChatCompletionResponse,
    StreamChatCompletionResponse,
)
from rapport.v1.chat_pb2_grpc import ChatServiceServicer
from rapport.v1.tokenize_pb2 import TokenizeRequest, TokenizeResponse

Context = grpc.aio.ServicerContext[Any, Any]


class ChatService(TextService, ChatServiceServicer):
    """The chat RPCs. Both answer with the same generation, whole or streamed.

    On every way out the generation is closed, which cancels it if it still runs. When the
    caller leaves or the deadline passes, CancelledError or GeneratorExit is raised here.
    """

    async def CreateChatCompletion(  # noqa: N802 - named by the proto
        self, request: CreateChatCompletionRequest, _context: Context
    ) -> CreateChatCompletionResponse:
        generation_request, builder = await self._prepare(request, streaming=False)
        async with self._submit(generation_request) as generation:
            response = await builder.build(generation)
            headers = metrics_headers(builder.metrics(generation))
            request_context.current().response_headers.update(headers)
            return response

    async def StreamChatCompletion(  # noqa: N802
        self, request: CreateChatCompletionRequest, _context: Context
    ) -> AsyncGenerator[StreamChatCompletionResponse]:
        generation_request, builder = await self._prepare(request, streaming=True)
        headers = request_context.current().response_headers
        async with (
            self._submit(generation_request) as generation,
            aclosing(builder.stream(generation)) as pieces,
        ):
            async for piece in pieces:
                # How much of the prompt was cached is known only with the first piece.
                if PROMPT_TOKENS not in headers:
                    headers.update(prompt_headers(builder.metrics(generation)))
                yield piece

    async def Tokenize(  # noqa: N802
        self, request: TokenizeRequest, _context: Context
    ) -> TokenizeResponse:
        context = request_context.current()
        served = self._lifecycle.served
        check_sizes(request)
        steps = tokenize(request, served)
        response = await self._threads.run_steps(context.caller, steps)
        context.tokenized = response.count
        return response

    async def _prepare(
        self, request: CreateChatCompletionRequest, *, streaming: bool
    ) -> tuple[GenerationRequest, ResponseBuilder]:
        """Parses and tokenizes a request, and compiles its grammar."""
        context = request_context.current()
        # On the event loop, so that a huge request does not wait for a thread.
        check_sizes(request)
        if self._log_content:
            context.transcript.keep(request.messages)
        served = self._lifecycle.served
        steps = self._read(request, served, streaming=streaming)
        chat, (prepared,) = await self._generation_requests(context, served, steps)
        return prepared, response_builder(chat, prepared, served.engine.vocabulary, context)

    def _read(
        self, request: CreateChatCompletionRequest, served: ServedModel, *, streaming: bool
    ) -> Steps[tuple[ChatRequest, ReadRequest]]:
        served.check_name(request.model)
        chat = parse_chat_request(
            request,
            vocabulary_size=served.engine.vocabulary.size,
            streaming=streaming,
            sampling_defaults=self._defaults.sampling(served),
            call_format=served.prompts.call_format,
        )
        yield False
        tokens = yield from tokenize_request(chat, served, self._defaults)
        return chat, ReadRequest([tokens], key_of_tools(chat.tools))

    def _submit(self, request: GenerationRequest) -> Generation:
        generation = super()._submit(request)
        request_context.current().set_generation(generation)
        return generation
