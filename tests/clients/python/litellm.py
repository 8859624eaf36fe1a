"""litellm, through its fireworks_ai/ and its openai/ provider."""

from __future__ import annotations

import json
import os
from typing import Any, Literal

import litellm
from pydantic import BaseModel, Field

MODEL = os.environ["RAPPORT_MODEL"]
PLACES = {
    # This provider names the model accounts/fireworks/models/….
    "fireworks_ai": os.environ["RAPPORT_URL"] + "/inference/v1",
    "openai": os.environ["RAPPORT_URL"] + "/v1",
}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER_QUESTION = [{"role": "user", "content": "What is the weather in Rome?"}]
LONG = [{"role": "user", "content": "word " * 9000}]

litellm.suppress_debug_info = True
# Of a model that it does not know it would refuse to send tool_choice.
CAN = {"supports_function_calling": True, "supports_tool_choice": True}
litellm.register_model({f"fireworks_ai/{MODEL}": CAN | {"litellm_provider": "fireworks_ai"}})


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    millions: int = Field(ge=1, le=9)


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Looks up the weather.",
        "parameters": City.model_json_schema(),
        "strict": True,
    },
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def request(provider: str, **rest: Any) -> dict[str, Any]:
    named = {"model": f"{provider}/{MODEL}", "api_base": PLACES[provider], "api_key": "none"}
    settings = {"messages": QUESTION, "temperature": 0, "max_tokens": 12, "num_retries": 0}
    return named | settings | rest


def fireworks(**rest: Any) -> Any:
    return litellm.completion(**request("fireworks_ai", **rest))


def openai(**rest: Any) -> Any:
    return litellm.completion(**request("openai", **rest))


def case_fireworks_completion() -> None:
    completes(fireworks)


def case_openai_completion() -> None:
    completes(openai)


def completes(complete: Any) -> None:
    answer = complete()
    (choice,) = answer.choices
    assert MODEL in answer.model
    assert choice.message.content
    assert choice.finish_reason in {"stop", "length"}
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def case_fireworks_stream() -> None:
    streams(fireworks)


def case_openai_stream() -> None:
    streams(openai)


def streams(complete: Any) -> None:
    whole = complete()
    chunks = list(complete(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert [usage.total_tokens for usage in usages] == [whole.usage.total_tokens]
    built = litellm.stream_chunk_builder(chunks)
    assert built.usage.completion_tokens == whole.usage.completion_tokens
    assert built.choices[0].finish_reason == whole.choices[0].finish_reason


async def case_fireworks_async() -> None:
    await runs_async("fireworks_ai")


async def case_openai_async() -> None:
    await runs_async("openai")


async def runs_async(provider: str) -> None:
    whole = await litellm.acompletion(**request(provider))
    stream = await litellm.acompletion(**request(provider, stream=True))
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == whole.choices[0].message.content


def case_fireworks_tools() -> None:
    uses_tools(fireworks)


def case_openai_tools() -> None:
    uses_tools(openai)


def uses_tools(complete: Any) -> None:
    asked = {"messages": WEATHER_QUESTION, "tools": [WEATHER]}
    for choice in ("required", NAMED):
        one = {"tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 60}
        answer = complete(**asked, **one).choices[0]
        assert answer.finish_reason == "tool_calls"
        (call,) = answer.message.tool_calls
        assert call.function.name == "get_weather"
        City.model_validate_json(call.function.arguments)
        result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
        dumped = answer.message.model_dump()
        for turn in (answer.message, dumped, answer.message.model_dump(exclude_none=True)):
            messages = [*WEATHER_QUESTION, turn, result]
            said = complete(messages=messages, tools=[WEATHER], tool_choice="none").choices[0]
            assert said.message.content
            assert not said.message.tool_calls


def case_fireworks_call_in_a_stream() -> None:
    streams_a_call(fireworks)


def case_openai_call_in_a_stream() -> None:
    streams_a_call(openai)


def streams_a_call(complete: Any) -> None:
    asked = {"messages": WEATHER_QUESTION, "tools": [WEATHER], "tool_choice": NAMED}
    chunks = list(complete(**asked, max_tokens=60, stream=True))
    built = litellm.stream_chunk_builder(chunks)
    (choice,) = built.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert len(call.id) == len("call_") + 24
    assert call.function.name == "get_weather"
    City.model_validate_json(call.function.arguments)


def case_fireworks_formats() -> None:
    keeps_formats(fireworks)


def case_openai_formats() -> None:
    keeps_formats(openai)


def keeps_formats(complete: Any) -> None:
    asked = {"messages": [{"role": "user", "content": "Describe a city in JSON."}]}
    schema = City.model_json_schema()
    for form in (
        City,
        {"type": "json_object", "schema": schema},
        {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    ):
        answer = complete(**asked, response_format=form, max_tokens=60).choices[0]
        City.model_validate_json(answer.message.content)
    answer = complete(**asked, response_format={"type": "json_object"}, max_tokens=60).choices[0]
    assert answer.message.content.lstrip().startswith("{")
    if answer.finish_reason == "stop":
        json.loads(answer.message.content)


def case_fireworks_parameters() -> None:
    """What this provider sends on its way."""
    answer = fireworks(
        max_completion_tokens=12,
        max_tokens=None,
        top_k=20,
        min_p=0.1,
        repetition_penalty=1.1,
        prompt_truncate_len=500,
        context_length_exceeded_behavior="truncate",
        user="somebody",
        seed=1,
        stop=["zzz"],
        logit_bias={"100": -1},
        extra_headers={"x-session-affinity": "a"},
    )
    assert answer.choices[0].message.content


def case_fireworks_logprobs() -> None:
    (choice,) = fireworks(logprobs=True, top_logprobs=1, max_tokens=4).choices
    assert [len(token.top_logprobs) for token in choice.logprobs.content] == [1] * 4


def case_fireworks_errors() -> None:
    fails(fireworks)


def case_openai_errors() -> None:
    fails(openai)


def fails(complete: Any) -> None:
    for kind, text, rest in (
        # The vendor's text is not among those that make a ContextWindowExceededError.
        (litellm.BadRequestError, "prompt is too long", {"messages": LONG}),
        (litellm.BadRequestError, "temperature", {"temperature": 7}),
        (litellm.NotFoundError, "Model not found", {"model": f"{provider_of(complete)}/gpt-none"}),
    ):
        try:
            complete(**rest)
        except kind as error:
            assert text in str(error)  # noqa: PT017
        else:
            raise AssertionError(f"no {kind.__name__}")


def provider_of(complete: Any) -> str:
    return {fireworks: "fireworks_ai", openai: "openai"}[complete]
