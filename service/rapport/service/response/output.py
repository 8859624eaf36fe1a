"""What of an answer a request asks for beside its text."""

from __future__ import annotations

from rapport.service.engine.request import GenerationRequest
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.interceptors.context import RequestContext
from rapport.service.response.builder import Answer
from rapport.service.response.choices import ChoiceWriter, PlainSpeech, RawWriter, Speech
from rapport.service.response.logprobs import logprobs_writer
from rapport.service.response.tool_call_writer import ToolSpeech
from rapport.service.tools.tool_choice import NO_TOOLS, ToolPolicy
from rapport.v1.chat_pb2 import CreateChatCompletionRequest


def answer_to(
    request: CreateChatCompletionRequest,
    asked: GenerationRequest,
    vocabulary: Vocabulary,
    context: RequestContext,
    tools: ToolPolicy = NO_TOOLS,
) -> Answer:
    """An empty answer with a writer for each choice."""
    echo = echo_of(request, asked.prompt, vocabulary)
    writers = [
        ChoiceWriter(
            index,
            speech_with(tools),
            echo=echo,
            logprobs=logprobs_writer(request, vocabulary, len(echo)),
            with_tokens=request.return_token_ids,
            raw=raw_of(asked, vocabulary) if request.raw_output else None,
        )
        for index in range(asked.n)
    ]
    return Answer(
        model=request.model,
        writers=writers,
        prompt_token_ids=asked.prompt if request.return_token_ids else (),
        with_metrics=request.perf_metrics_in_response,
        arrived=context.arrived_at,
        transcript=context.transcript,
    )


def speech_with(tools: ToolPolicy) -> Speech:
    """Makes messages of text, in which there may be calls if there are tools."""
    return ToolSpeech(tools) if tools.functions else PlainSpeech()


def raw_of(asked: GenerationRequest, vocabulary: Vocabulary) -> RawWriter:
    grammar = None if asked.grammar is None else asked.grammar.source
    return RawWriter(asked.prompt, vocabulary.spell, grammar)


def echo_of(
    request: CreateChatCompletionRequest, prompt: tuple[int, ...], vocabulary: Vocabulary
) -> str:
    """The prompt, or its last tokens, as the model saw it, special tokens spelled out."""
    if request.echo_last:
        return vocabulary.spell(prompt[-request.echo_last :])
    return vocabulary.spell(prompt) if request.echo else ""
