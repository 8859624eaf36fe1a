"""What the services for chats and for completions have in common."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from rapport.common.fair_threads import FairThreads, Steps
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import GenerationRequest
from rapport.service.interceptors.context import RequestContext
from rapport.service.lifecycle import Lifecycle, ServedModel
from rapport.service.request.generation import (
    Defaults,
    RequestTokens,
    build_generation_request,
    compile_grammar,
)
from rapport.service.request.options import TextRequest
from rapport.service.rpc.response_headers import sampling_headers, unenforced_headers

Request = TypeVar("Request", bound=TextRequest)


class ReadRequest(NamedTuple):
    """What is known of a request before its grammar is compiled."""

    prompts: list[RequestTokens]
    key_of_tools: bytes = b""


class TextService:
    """Reads requests for text, each in its caller's turn, and submits them to the engine."""

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

    async def _generation_requests(
        self,
        context: RequestContext,
        served: ServedModel,
        steps: Steps[tuple[Request, ReadRequest]],
    ) -> tuple[Request, list[GenerationRequest]]:
        """Runs the steps that read a request, and compiles its grammar.

        Returns the request, and what the engine takes for each of its prompts.
        """
        with served.engine.reserve_place(context.tenant):
            request, read = await self._threads.run_steps(context.caller, steps)
            key = read.key_of_tools
            wanted = await compile_grammar(request, key, served.formats, context.caller)
        context.add_headers_and_trailers(unenforced_headers(wanted.unenforced))
        if self._defaults.model_sampling:
            context.response_headers.update(sampling_headers(request.sampling))
        return request, [
            build_generation_request(
                request, tokens, wanted.grammar, self._defaults, context.tenant
            )
            for tokens in read.prompts
        ]

    def _submit(self, request: GenerationRequest) -> Generation:
        return self._lifecycle.served.engine.submit(request)
