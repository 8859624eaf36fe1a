"""Builds the answers to chats from what the engine generates."""

from __future__ import annotations

from dataclasses import dataclass

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import GenerationRequest
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.interceptors.context import RequestContext
from rapport.service.request.parse import ChatRequest
from rapport.service.response.answer_builder import AnswerBuilder
from rapport.service.response.choices import (
    ChoiceJoiner,
    ChoiceWriter,
    Echo,
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


@dataclass(slots=True)
class ResponseBuilder(AnswerBuilder[StreamChatCompletionResponse]):
    """Builds the answer to a chat."""

    async def build(self, generation: Generation) -> CreateChatCompletionResponse:
        """The answer in one message."""
        # The choices grow in their place: adding them at the end would copy everything at once.
        response = CreateChatCompletionResponse(
            id=self.id, object="chat.completion", created=self.created, model=self.model
        )
        joiners = [ChoiceJoiner(response.choices.add(index=i)) for i in range(len(self.writers))]
        async for piece in self._choices(generation):
            if piece.prompt_token_ids and not response.prompt_token_ids:
                response.prompt_token_ids.extend(piece.prompt_token_ids)
            joiners[piece.index].add(piece)
        for joiner in joiners:
            joiner.end()
        self._add_usage(response, generation)
        return response

    def _blank_piece(self) -> StreamChatCompletionResponse:
        return StreamChatCompletionResponse(
            id=self.id, object="chat.completion.chunk", created=self.created, model=self.model
        )

    def _add_choice(self, piece: StreamChatCompletionResponse, choice: ChoiceDelta) -> None:
        piece.choices.append(choice)
        if choice.index == 0:
            piece.prompt_token_ids.extend(choice.prompt_token_ids)


def response_builder(
    request: ChatRequest,
    generation_request: GenerationRequest,
    vocabulary: Vocabulary,
    context: RequestContext,
) -> ResponseBuilder:
    """The builder of the answer to a request, with a writer for each choice."""
    prompt, output = generation_request.prompt, request.output
    echo = Echo(request, prompt, vocabulary)
    writers = [
        ChoiceWriter(
            index,
            _message_writer(request.tools),
            echo=echo,
            logprobs=logprobs_writer(request.logprobs, vocabulary.token_bytes),
            prompt=prompt if output.token_ids else (),
            with_tokens=output.token_ids,
            raw_output=_raw_writer(request, generation_request, vocabulary),
        )
        for index in range(request.n)
    ]
    return ResponseBuilder(
        model=request.model,
        writers=writers,
        with_metrics=output.perf_metrics,
        separate_usage=output.separate_usage,
        arrived_at=context.arrived_at,
        transcript=context.transcript,
    )


def _message_writer(tools: ToolPolicy) -> MessageWriter:
    return ToolCallWriter(tools) if tools.functions else TextWriter()


def _raw_writer(
    request: ChatRequest, generation_request: GenerationRequest, vocabulary: Vocabulary
) -> RawOutputWriter | None:
    if not request.raw_output:
        return None
    prompt, grammar = generation_request.prompt, generation_request.grammar
    source = None if grammar is None else grammar.source
    logprobs = logprobs_writer(request.logprobs, vocabulary.token_bytes)
    return RawOutputWriter(prompt, vocabulary.spell, source, logprobs)
