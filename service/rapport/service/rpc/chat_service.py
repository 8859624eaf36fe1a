"""ChatService: chat completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import grpc

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import GenerationRequest, Tenant
from rapport.service.interceptors import context as request_context
from rapport.service.lifecycle import Lifecycle, ServedModel
from rapport.service.request.fields import check
from rapport.service.request.grammar import grammar_for
from rapport.service.request.limits import check_size
from rapport.service.request.parse import Defaults, generation_request, prediction_of
from rapport.service.request.tokenize import tokenized
from rapport.service.response.builder import Answer
from rapport.service.response.output import answer_to
from rapport.service.rpc.response_headers import metrics_headers, prompt_headers
from rapport.service.tools.tool_choice import ToolPolicy, parse_tool_policy
from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
    CreateChatCompletionResponse,
    StreamChatCompletionResponse,
)
from rapport.v1.chat_pb2_grpc import ChatServiceServicer
from rapport.v1.tokenize_pb2 import TokenizeRequest, TokenizeResponse

Context = grpc.aio.ServicerContext[Any, Any]

# Understanding a long request takes a good part of a second, so it is done beside the
# event loop; two at a time leave cores to the model.
THREADS = 2


class ChatService(ChatServiceServicer):
    """Both RPCs that generate tell of the same generation, one at its end, the other as it goes.

    A generation is left, and so cancelled where it still runs, on every way out: the
    caller's going and the deadline arrive here as CancelledError or GeneratorExit.
    """

    def __init__(
        self, lifecycle: Lifecycle, defaults: Defaults, *, log_content: bool = False
    ) -> None:
        self._lifecycle = lifecycle
        self._defaults = defaults
        self._log_content = log_content
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")

    async def CreateChatCompletion(  # noqa: N802 - named by the proto
        self, request: CreateChatCompletionRequest, _context: Context
    ) -> CreateChatCompletionResponse:
        answer, asked = await self._understand(request, streaming=False)
        async with self._submit(asked) as generation:
            whole = await answer.whole(generation)
            headers = metrics_headers(answer.metrics(generation))
            request_context.current().response_headers.update(headers)
            return whole

    async def StreamChatCompletion(  # noqa: N802
        self, request: CreateChatCompletionRequest, _context: Context
    ) -> AsyncGenerator[StreamChatCompletionResponse]:
        answer, asked = await self._understand(request, streaming=True)
        context = request_context.current()
        usage_apart = request.stream_options.include_usage
        async with (
            self._submit(asked) as generation,
            aclosing(answer.pieces(generation, usage_apart=usage_apart)) as pieces,
        ):
            # Only with the first is it known how much of the prompt was in the cache.
            async for piece in pieces:
                if not context.response_headers:
                    context.response_headers.update(prompt_headers(answer.metrics(generation)))
                yield piece

    async def Tokenize(  # noqa: N802
        self, request: TokenizeRequest, _context: Context
    ) -> TokenizeResponse:
        served = self._lifecycle.served
        check_size(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, tokenized, request, served)

    async def _understand(
        self, request: CreateChatCompletionRequest, *, streaming: bool
    ) -> tuple[Answer, GenerationRequest]:
        context = request_context.current()
        # Here, so that a huge one does not wait for a thread.
        check_size(request)
        if self._log_content:
            context.transcript.keep(request.messages)
        served = self._lifecycle.served
        understand = partial(self._asked, request, served, context.tenant, streaming=streaming)
        loop = asyncio.get_running_loop()
        with served.engine.expect(context.tenant):
            tools, asked = await loop.run_in_executor(self._threads, understand)
            grammar = await grammar_for(request, tools, served.formats)
        asked = replace(asked, grammar=grammar)
        answer = answer_to(request, asked, served.engine.vocabulary, context, tools)
        return answer, asked

    def _submit(self, asked: GenerationRequest) -> Generation:
        generation = self._lifecycle.served.engine.submit(asked)
        request_context.current().set_generation(generation)
        return generation

    def _asked(
        self,
        request: CreateChatCompletionRequest,
        served: ServedModel,
        tenant: Tenant,
        *,
        streaming: bool,
    ) -> tuple[ToolPolicy, GenerationRequest]:
        engine = served.engine
        size = engine.vocabulary.size
        check(request, model=served.model, vocabulary_size=size, streaming=streaming)
        tools = parse_tool_policy(request)
        prompt = served.prompts.encode(
            request.messages,
            tools=tools.definitions,
            max_tokens=request.prompt_truncate_len or None,
            safe=request.safe_tokenization or not request.HasField("safe_tokenization"),
        )
        length = engine.context_length
        asked = generation_request(request, prompt, length, self._defaults, tenant)
        prediction = prediction_of(request, engine.vocabulary)[:length]
        asked = replace(asked, prediction=prediction)
        return tools, asked
