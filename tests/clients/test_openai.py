"""The official openai client against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest

from bench.server import Target
from tests.conftest import MODEL

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 24}


@pytest.fixture(params=["/v1", "/inference/v1"])
def client(server: Target, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.rest}{request.param}", api_key="none") as client:
        yield client


@pytest.fixture
def patient(server: Target) -> Iterator[openai.OpenAI]:
    """A client that does not try again, so that errors are seen as they come."""
    url = f"{server.rest}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_completion(client: openai.OpenAI) -> None:
    """A completion has its text, reason and usage, at both of the paths."""
    answer = client.chat.completions.create(**GREEDY)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream_joins_to_the_completion(client: openai.OpenAI) -> None:
    """Joined, the deltas of a stream are the text of the completion; usage comes once."""
    whole = client.chat.completions.create(**GREEDY)
    chunks = list(client.chat.completions.create(**GREEDY, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    (usage,) = (chunk.usage for chunk in chunks if chunk.usage)
    # How much of the prompt was in the cache may differ.
    assert whole.usage is not None
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_usage_in_a_chunk_of_its_own(client: openai.OpenAI) -> None:
    """With include_usage, usage comes in a last chunk that has no choices, and only there."""
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**GREEDY, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_no_usage(client: openai.OpenAI) -> None:
    """With include_usage false, no chunk has usage."""
    options = {"include_usage": False}
    chunks = client.chat.completions.create(**GREEDY, stream=True, stream_options=options)
    assert not any(chunk.usage for chunk in chunks)


async def test_eight_async_streams_at_once(server: Target) -> None:
    """Eight streams at once each end well."""
    url = f"{server.rest}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

        async def reason() -> str | None:
            stream = await client.chat.completions.create(**GREEDY, stream=True)
            return [chunk async for chunk in stream][-1].choices[0].finish_reason

        reasons = await asyncio.gather(*(reason() for _ in range(8)))
    assert set(reasons) <= {"stop", "length"}


def test_stop_text_is_in_the_answer(client: openai.OpenAI) -> None:
    """The text ends with the stop string, in one piece and streamed."""
    counting = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Count from one to ten."}],
        "temperature": 0,
        "stop": [",", "2"],
    }
    whole = client.chat.completions.create(**counting).choices[0]
    assert whole.finish_reason == "stop"
    assert whole.message.content is not None
    assert whole.message.content.endswith((",", "2"))
    chunks = client.chat.completions.create(**counting, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == whole.message.content


def test_seeded_choices_repeat(client: openai.OpenAI) -> None:
    """n choices differ from each other, and the same seed gives them again."""
    request = {**GREEDY, "temperature": 1.3, "n": 3, "seed": 5}
    first, second = (
        [choice.message.content for choice in client.chat.completions.create(**request).choices]
        for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == 3


def test_models(client: openai.OpenAI) -> None:
    """The model is listed and described."""
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "HuggingFaceTB"


def test_conversation_is_replayed(client: openai.OpenAI) -> None:
    """An answer's message can be sent back as it came, as an object or dumped."""
    first = client.chat.completions.create(**GREEDY).choices[0].message
    more = {"role": "user", "content": "Thank you."}
    for replayed in (first, first.model_dump()):
        messages = [*QUESTION, replayed, more]
        answer = client.chat.completions.create(**{**GREEDY, "messages": messages})
        assert answer.choices[0].message.content is not None


def test_errors_have_their_classes(patient: openai.OpenAI) -> None:
    """An unknown model and a bad value are the errors that the client knows them as."""
    with pytest.raises(openai.NotFoundError) as missing:
        patient.chat.completions.create(**{**GREEDY, "model": "gpt-4"})
    assert missing.value.code == "NOT_FOUND"
    assert missing.value.param == "model"
    with pytest.raises(openai.BadRequestError) as bad:
        patient.chat.completions.create(**{**GREEDY, "temperature": 3})
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        patient.models.retrieve("gpt-4")
