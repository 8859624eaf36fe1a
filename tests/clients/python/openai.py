"""The official openai package: plain calls, its stream helper, its parsing, tools both ways."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any, Literal

import openai
from pydantic import BaseModel, Field

MODEL = os.environ["RAPPORT_MODEL"]
HOME = os.environ["RAPPORT_URL"] + "/v1"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12}
LONG = GREEDY | {"max_tokens": 160}
WEATHER_QUESTION = [{"role": "user", "content": "What will the weather be in Rome?"}]
# The helpers take an answer that was cut short for an error: this one ends at its first space,
# whatever the weights make the model say.
ENDING = GREEDY | {"messages": QUESTION, "stop": [" "], "max_tokens": 60}
CALL_ID = re.compile(r"call_[A-Za-z0-9]{24}")

client = openai.OpenAI(base_url=HOME, api_key="none", max_retries=0)
chat = client.chat.completions


class Weather(BaseModel):
    """Looks up the weather of the next days."""

    city: Literal["Paris", "Rome"]
    days: int = Field(ge=1, le=7)


class Animal(BaseModel):
    kind: Literal["cat", "dog"]
    name: str = Field(max_length=12)


class Person(BaseModel):
    name: str = Field(min_length=1, max_length=12)
    age: int = Field(ge=0, le=120)
    married: bool
    nickname: str | None = Field(max_length=8)
    pets: list[Animal] = Field(min_length=1, max_length=2)


WEATHER = openai.pydantic_function_tool(Weather)
CALLING = LONG | {
    "messages": WEATHER_QUESTION,
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "Weather"}},
}
DESCRIBE = LONG | {"messages": [{"role": "user", "content": "Invent a person with a pet."}]}


def case_completion() -> None:
    answer = chat.create(**GREEDY, messages=QUESTION)
    (choice,) = answer.choices
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.id)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.tool_calls is None
    assert choice.finish_reason in {"stop", "length"}
    assert choice.logprobs is None
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 12


async def case_async() -> None:
    async with openai.AsyncOpenAI(base_url=HOME, api_key="none") as aclient:
        request = GREEDY | {"messages": QUESTION}
        whole = await aclient.chat.completions.create(**request)
        stream = await aclient.chat.completions.create(**request, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == whole.choices[0].message.content
        four = await asyncio.gather(*(aclient.chat.completions.create(**request) for _ in range(4)))
        assert all(answer.choices[0].message.content for answer in four)
        assert len({answer.id for answer in four}) == 4


def case_stream() -> None:
    whole = chat.create(**GREEDY, messages=QUESTION)
    chunks = list(chat.create(**GREEDY, messages=QUESTION, stream=True))
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [whole.choices[0].finish_reason]
    assert [counts(chunk.usage) for chunk in chunks if chunk.usage] == [counts(whole.usage)]


def case_choices_interleave() -> None:
    request = GREEDY | {"messages": QUESTION, "n": 3, "seed": 4, "temperature": 1}
    whole = chat.create(**request)
    texts = ["", "", ""]
    for chunk in chat.create(**request, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


def case_a_stream_can_be_left() -> None:
    with chat.create(**LONG, messages=QUESTION, stream=True) as stream:
        next(iter(stream))
    assert chat.create(**GREEDY, messages=QUESTION).choices


def case_stream_helper() -> None:
    options = {"include_usage": True}
    with chat.stream(**ENDING, stream_options=options) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    deltas = "".join(event.delta for event in events if event.type == "content.delta")
    (done,) = [event.content for event in events if event.type == "content.done"]
    assert deltas == done == final.choices[0].message.content
    whole = chat.create(**ENDING)
    assert done == whole.choices[0].message.content
    assert done.index(" ") == len(done) - 1
    assert counts(final.usage) == counts(whole.usage)


async def case_stream_helper_async() -> None:
    aclient = openai.AsyncOpenAI(base_url=HOME, api_key="none")
    async with aclient, aclient.chat.completions.stream(**ENDING) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content
    assert final.usage.completion_tokens > 0


def case_parse() -> None:
    answer = chat.parse(**DESCRIBE, response_format=Person)
    (choice,) = answer.choices
    assert isinstance(choice.message.parsed, Person)
    assert choice.finish_reason == "stop"
    order = list(json.loads(choice.message.content))
    assert order == ["name", "age", "married", "nickname", "pets"]


async def case_parse_async() -> None:
    async with openai.AsyncOpenAI(base_url=HOME, api_key="none") as aclient:
        answer = await aclient.chat.completions.parse(**DESCRIBE, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)


def case_parse_in_a_stream() -> None:
    with chat.stream(**DESCRIBE, response_format=Person) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    (done,) = [event.parsed for event in events if event.type == "content.done"]
    assert isinstance(done, Person)
    assert final.choices[0].message.parsed == done
    assert any(event.parsed for event in events if event.type == "content.delta")


def case_parse_cut_short() -> None:
    try:
        chat.parse(**(DESCRIBE | {"max_tokens": 1}), response_format=Person)
    except openai.LengthFinishReasonError as error:
        assert error.completion.choices[0].finish_reason == "length"  # noqa: PT017
    else:
        raise AssertionError("no error")


def case_json_object() -> None:
    choice = chat.create(**DESCRIBE, response_format={"type": "json_object"}).choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)
    else:
        assert choice.message.content.startswith("{")


def case_json_schema_streams_as_it_is_whole() -> None:
    schema = Animal.model_json_schema()
    for form in (
        {"type": "json_object", "schema": schema},
        {"type": "json_schema", "json_schema": schema},
        {"type": "json_schema", "json_schema": {"name": "animal", "schema": schema}},
        {"type": "json_schema", "json_schema": json.dumps(schema)},
    ):
        whole = chat.create(**DESCRIBE, response_format=form).choices[0].message.content
        Animal.model_validate_json(whole)
        chunks = chat.create(**DESCRIBE, response_format=form, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


def case_grammar_and_regex() -> None:
    grammar = {"type": "grammar", "grammar": 'root ::= "yes" | "no"'}
    assert chat.create(**DESCRIBE, response_format=grammar).choices[0].message.content in {
        "yes",
        "no",
    }
    regex = {"type": "regex", "regex": "[0-9]{2}"}
    assert re.fullmatch(
        "[0-9]{2}", chat.create(**DESCRIBE, response_format=regex).choices[0].message.content
    )


def case_schema_that_cannot_be_kept() -> None:
    external = {"type": "object", "properties": {"a": {"$ref": "https://example.com/a.json"}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": external}}
    error = refused(openai.BadRequestError, **DESCRIBE, response_format=form)
    assert "$ref" in error.message


def case_forced_call() -> None:
    answer = chat.create(**CALLING)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert CALL_ID.fullmatch(call.id)
    assert call.type == "function"
    assert call.function.name == "Weather"
    Weather.model_validate_json(call.function.arguments)


def case_parse_tools() -> None:
    for choice in ("required", "any", CALLING["tool_choice"]):
        one = {"tool_choice": choice, "parallel_tool_calls": False}
        answer = chat.parse(**(CALLING | one))
        (call,) = answer.choices[0].message.tool_calls
        assert isinstance(call.function.parsed_arguments, Weather)


def case_call_in_a_stream() -> None:
    chunks = list(chat.create(**CALLING, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert {call.index for call in deltas} == {0}
    assert [bool(call.id) for call in deltas] == [True] + [False] * (len(deltas) - 1)
    assert [call.function.name for call in deltas if call.function.name] == ["Weather"]
    arguments = "".join(call.function.arguments or "" for call in deltas)
    whole = chat.create(**CALLING)
    assert arguments == whole.choices[0].message.tool_calls[0].function.arguments
    assert not chunks[-1].choices[0].delta.tool_calls
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert counts(chunks[-1].usage) == counts(whole.usage)


def case_call_in_the_stream_helper() -> None:
    with chat.stream(**CALLING) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert done.name == "Weather"
    assert isinstance(done.parsed_arguments, Weather)
    assert any(event.type == "tool_calls.function.arguments.delta" for event in events)
    (call,) = final.choices[0].message.tool_calls
    assert CALL_ID.fullmatch(call.id)
    assert call.function.name == "Weather"
    assert call.function.parsed_arguments == done.parsed_arguments


def case_tool_round_trip() -> None:
    """The assistant's turn is sent back in each of the ways that programs do it."""
    message = chat.create(**CALLING).choices[0].message
    for turn in (
        message,
        message.to_dict(),
        message.model_dump(),
        message.model_dump(exclude_none=True),
    ):
        goes_on(turn, message.tool_calls[0].id)


def case_parsed_turn_is_sent_back() -> None:
    """What the helpers add to a message, parsed and parsed_arguments, comes back with it."""
    parsed = chat.parse(**CALLING).choices[0].message
    goes_on(parsed, parsed.tool_calls[0].id)
    with chat.stream(**CALLING) as stream:
        streamed = stream.get_final_completion().choices[0].message
    goes_on(streamed, streamed.tool_calls[0].id)
    invented = chat.parse(**DESCRIBE, response_format=Person).choices[0].message
    messages = [*DESCRIBE["messages"], invented, {"role": "user", "content": "Thank you."}]
    assert chat.create(**GREEDY, messages=messages).choices[0].message.content


def goes_on(turn: Any, call: str) -> None:
    result = {"role": "tool", "tool_call_id": call, "content": "Sunny, 24 degrees."}
    messages = [*WEATHER_QUESTION, turn, result]
    for rest in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
        answer = chat.create(**GREEDY, messages=messages, **rest).choices[0]
        assert answer.message.content
        assert answer.message.tool_calls is None
    decided = chat.create(**GREEDY, messages=messages, tools=[WEATHER]).choices[0].message
    assert decided.content or decided.tool_calls


def case_two_results_in_parts() -> None:
    """Several calls in a turn, text beside them, and results given as lists of parts."""
    calls = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "Weather", "arguments": '{"city":"Rome","days":1}'},
        }
        for number in (1, 2)
    ]
    turn = {"role": "assistant", "content": "Let me see.", "tool_calls": calls}
    results = [
        {
            "role": "tool",
            "tool_call_id": call["id"],
            "content": [{"type": "text", "text": "Sunny."}],
        }
        for call in calls
    ]
    messages = [*WEATHER_QUESTION, turn, *results]
    assert chat.create(**GREEDY, messages=messages).choices[0].message.content


def case_auto() -> None:
    """The model decides; what it decides is whole, and a stream decides the same."""
    request = LONG | {"messages": WEATHER_QUESTION, "tools": [WEATHER], "max_tokens": 40}
    choice = chat.create(**request).choices[0]
    if choice.message.tool_calls:
        assert choice.finish_reason == "tool_calls"
        json.loads(choice.message.tool_calls[0].function.arguments)
    else:
        assert choice.message.content
    chunks = list(chat.create(**request, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == (choice.message.content or "")
    assert chunks[-1].choices[0].finish_reason == choice.finish_reason


def case_several_calls() -> None:
    """Calls beside each other have their own ids and indexes; a cut one is the last."""
    request = CALLING | {"tool_choice": "required", "max_tokens": 90}
    (choice,) = chat.create(**request).choices
    calls = choice.message.tool_calls
    assert len({call.id for call in calls}) == len(calls)
    assert choice.finish_reason in {"tool_calls", "length"}
    for call in calls if choice.finish_reason == "tool_calls" else calls[:-1]:
        Weather.model_validate_json(call.function.arguments)
    arguments: dict[int, str] = {}
    for chunk in chat.create(**request, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert bool(delta.id) == (delta.index not in arguments)
            arguments.setdefault(delta.index, "")
            arguments[delta.index] += delta.function.arguments or ""
    assert list(arguments) == list(range(len(calls)))
    assert list(arguments.values()) == [call.function.arguments for call in calls]


def case_legacy_functions() -> None:
    answer = chat.create(
        **LONG,
        messages=WEATHER_QUESTION,
        functions=[{"name": "weather", "parameters": Weather.model_json_schema()}],
        function_call={"name": "weather"},
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    Weather.model_validate_json(call.function.arguments)


def case_logprobs() -> None:
    request = GREEDY | {"messages": QUESTION, "max_tokens": 4, "logprobs": True, "top_logprobs": 2}
    whole = chat.create(**request)
    (choice,) = whole.choices
    tokens = choice.logprobs.content
    assert len(tokens) == whole.usage.completion_tokens == 4
    assert (
        bytes(byte for token in tokens for byte in token.bytes).decode() == choice.message.content
    )
    for token in tokens:
        first, second = token.top_logprobs
        assert token.logprob <= 0
        assert (first.token, first.logprob) == (token.token, token.logprob)
        assert second.logprob <= first.logprob
    chunks = chat.create(**request, stream=True)
    streamed = [
        token
        for chunk in chunks
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert [(one.token, one.bytes) for one in streamed] == [
        (one.token, one.bytes) for one in tokens
    ]


def case_text_completion() -> None:
    asked: dict[str, Any] = GREEDY | {"prompt": "The capital of France is"}
    answer = client.completions.create(**asked)
    (choice,) = answer.choices
    assert (answer.object, choice.finish_reason) == ("text_completion", "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == GREEDY["max_tokens"]
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text
    both = client.completions.create(**asked | {"prompt": ["Hi", asked["prompt"]]}, logprobs=1)
    assert [each.index for each in both.choices] == [0, 1]
    # Two prompts run together, where rounding may tip a near tie later on.
    assert both.choices[1].text.startswith(" Paris")
    logprobs = both.choices[1].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or []) == both.choices[1].text


def case_errors() -> None:
    missing = refused(openai.NotFoundError, **(GREEDY | {"model": "gpt-4"}), messages=QUESTION)
    assert (missing.code, missing.param) == ("NOT_FOUND", "model")
    unknown = refused(openai.BadRequestError, **GREEDY, messages=QUESTION, extra_body={"foo": True})
    assert "Extra inputs are not permitted, field: 'foo', value: True" in unknown.message
    long = [{"role": "user", "content": "word " * 9000}]
    too_long = refused(openai.BadRequestError, **GREEDY, messages=long)
    assert "prompt is too long" in too_long.message
    assert too_long.type == "invalid_request_error"
    streamed = refused(openai.BadRequestError, **GREEDY, messages=long, stream=True)
    assert "prompt is too long" in streamed.message


def case_each_request_is_sent_once() -> None:
    """Nothing that works or is refused makes the client try again."""
    sent: list[object] = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    with openai.OpenAI(base_url=HOME, api_key="none", http_client=http) as patient:
        patient.chat.completions.create(**GREEDY, messages=QUESTION)
        list(patient.chat.completions.create(**GREEDY, messages=QUESTION, stream=True))
        try:
            patient.chat.completions.create(**GREEDY, messages=[])
        except openai.BadRequestError:
            pass
        else:
            raise AssertionError("no error")
    assert len(sent) == 3


def case_raw_response() -> None:
    raw = chat.with_raw_response.create(**GREEDY, messages=QUESTION)
    assert raw.headers["x-request-id"]
    assert raw.headers["content-type"].startswith("application/json")
    body = json.loads(raw.content)
    assert body["choices"][0]["logprobs"] is None
    assert body["choices"][0]["message"]["refusal"] is None
    assert raw.parse().choices[0].message.content


def case_models() -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).object == "model"


def refused(kind: type[openai.APIStatusError], **request: Any) -> openai.APIStatusError:
    try:
        chat.create(**request)
    except kind as error:
        return error
    raise AssertionError("no error")


def counts(usage: Any) -> tuple[int, int, int]:
    """How much of the prompt was cached differs from one call to the next."""
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
