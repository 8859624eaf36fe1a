"""Answers to requests for completions, whole and streamed."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from rapport.service.engine.batch import GenerationBatch
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, GenerationRequest
from rapport.service.interceptors.transcript import Transcript
from rapport.service.request.completion import parse_completion_request
from rapport.service.response.choices import ChoiceWriter, TextWriter
from rapport.service.response.completion_builder import CompletionBuilder, completion_builder
from rapport.v1.chat_pb2 import FinishReason
from rapport.v1.completion_pb2 import (
    CompletionPrompt,
    CreateCompletionRequest,
    StreamCompletionResponse,
)
from tests.service.fakes import ends, says
from tests.service.response.test_choices import echo as echoing

PROMPT = (1, 2, 3)
DELTAS = (says(0, "Hel"), says(0, "lo"), ends(0, "!"))


def answer(echo: str = "", prompt: tuple[int, ...] = (), **options: Any) -> CompletionBuilder:
    writer = ChoiceWriter(
        0,
        TextWriter(),
        echo=echoing(echo) if echo else None,
        prompt=prompt,
        with_tokens=True,
        with_role=False,
    )
    return CompletionBuilder(model="m", writers=[writer], **options)


def scripted(*deltas: Delta) -> GenerationBatch:
    def submit(request: GenerationRequest) -> Generation:
        generation = Generation(request, lambda _: None)
        for delta in deltas:
            generation.add(deepcopy(delta))
        return generation

    return GenerationBatch([GenerationRequest(PROMPT, 10)], submit, 1)


async def pieces(builder: CompletionBuilder) -> list[StreamCompletionResponse]:
    async with scripted(*DELTAS) as batch:
        return [piece async for piece in builder.stream(batch)]


async def test_whole() -> None:
    """A whole answer has the text, its reason, and the tokens used."""
    async with scripted(*DELTAS) as batch:
        whole = await answer(echo="Oh: ").build(batch)
    (choice,) = whole.choices
    assert (choice.text, list(choice.token_ids)) == ("Oh: Hello!", [7, 7, 2])
    assert choice.finish_reason == FinishReason.FINISH_REASON_STOP
    assert (whole.object, whole.usage.total_tokens) == ("text_completion", 6)


async def test_pieces_join_to_the_whole() -> None:
    """The pieces, joined, are the whole answer; usage is on the last."""
    told = await pieces(answer(echo="Oh: "))
    assert "".join(piece.choices[0].text for piece in told) == "Oh: Hello!"
    assert [piece.HasField("usage") for piece in told] == [False] * (len(told) - 1) + [True]
    assert {piece.object for piece in told} == {"text_completion"}
    assert len({piece.id for piece in told}) == 1


async def test_usage_apart() -> None:
    """Usage may come in a piece of its own."""
    *others, last = await pieces(answer(separate_usage=True, with_metrics=True))
    assert not any(piece.HasField("usage") for piece in others)
    assert (len(last.choices), last.usage.completion_tokens) == (0, 3)
    assert last.perf_metrics.prompt_tokens == 3


async def test_tokens_of_the_prompt_come_first_and_once() -> None:
    """Asked for, the prompt's tokens are on the first piece of the choice."""
    told = await pieces(answer(prompt=PROMPT))
    assert [list(piece.choices[0].prompt_token_ids) for piece in told][:2] == [[1, 2, 3], []]
    async with scripted(*DELTAS) as batch:
        whole = await answer(prompt=PROMPT).build(batch)
    assert list(whole.choices[0].prompt_token_ids) == [1, 2, 3]


def test_choices_share_the_text_of_their_prompt() -> None:
    """However many choices a prompt has, its text is made once."""
    message = CreateCompletionRequest(model="m", prompt=CompletionPrompt(text="a"), n=3, echo=True)
    request = parse_completion_request(message, vocabulary_size=9, streaming=False)
    vocabulary = Mock(spell=Mock(return_value="a"))
    context: Any = SimpleNamespace(arrived_at=0.0, transcript=Transcript())
    builder = completion_builder(request, [PROMPT], vocabulary, context)
    texts = ["".join(p.delta.content for p in writer.open()) for writer in builder.writers]
    assert texts == ["a"] * 3
    vocabulary.spell.assert_called_once_with(PROMPT)
