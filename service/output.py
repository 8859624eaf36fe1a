"""What of an answer a request asks for beside its text."""

from __future__ import annotations

from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from service.answer import Answer
from service.choices import ChoiceWriter, PlainSpeech, RawWriter
from service.engine.request import GenerationRequest
from service.engine.vocabulary import Vocabulary
from service.logprobs import logprobs_writer


def answer_to(
    request: CreateChatCompletionRequest,
    asked: GenerationRequest,
    vocabulary: Vocabulary,
    arrived: float,
) -> Answer:
    """An empty answer with a writer for each choice. `arrived` is of the monotonic clock."""
    echo = echo_of(request, asked.prompt, vocabulary)
    writers = [
        ChoiceWriter(
            index,
            PlainSpeech(),
            echo=echo,
            logprobs=logprobs_writer(request, vocabulary, len(echo)),
            with_tokens=request.return_token_ids,
            raw=RawWriter(asked.prompt, vocabulary.spell) if request.raw_output else None,
        )
        for index in range(asked.n)
    ]
    return Answer(
        model=request.model,
        writers=writers,
        prompt_token_ids=asked.prompt if request.return_token_ids else (),
        with_metrics=request.perf_metrics_in_response,
        arrived=arrived,
    )


def echo_of(
    request: CreateChatCompletionRequest, prompt: tuple[int, ...], vocabulary: Vocabulary
) -> str:
    """The prompt, or its last tokens, as the model saw it, special tokens spelled out."""
    if request.echo_last:
        return vocabulary.spell(prompt[-request.echo_last :])
    return vocabulary.spell(prompt) if request.echo else ""
