"""The vendor's fireworks-ai package, 1.x."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import fireworks
from fireworks import AsyncFireworks, Fireworks

MODEL = os.environ["RAPPORT_MODEL"]
# Its paths begin with /v1.
HOME = os.environ["RAPPORT_URL"]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12}
LONG = GREEDY | {"max_tokens": 120}
WEATHER_QUESTION = [{"role": "user", "content": "What will the weather be in Rome?"}]
PLACE = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "maximum": 7}},
    "required": ["city"],
}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather of a city.", "parameters": PLACE},
}
CALLING = LONG | {
    "messages": WEATHER_QUESTION,
    "tools": [WEATHER],
    "tool_choice": "any",
    "parallel_tool_calls": False,
}

client = Fireworks(base_url=HOME, api_key="none", max_retries=0)
chat = client.chat.completions


def case_completion() -> None:
    answer = chat.create(**GREEDY, messages=QUESTION)
    (choice,) = answer.choices
    assert answer.object == "chat.completion"
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in {"stop", "length"}
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


async def case_async() -> None:
    async with AsyncFireworks(base_url=HOME, api_key="none") as aclient:
        whole = await aclient.chat.completions.create(**GREEDY, messages=QUESTION)
        stream = await aclient.chat.completions.create(**GREEDY, messages=QUESTION, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == whole.choices[0].message.content


def case_stream() -> None:
    whole = chat.create(**GREEDY, messages=QUESTION)
    chunks = list(chat.create(**GREEDY, messages=QUESTION, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert [counts(chunk.usage) for chunk in chunks if chunk.usage] == [counts(whole.usage)]
    assert chunks[-1].usage
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def case_parameters() -> None:
    """Fields beyond OpenAI's are taken."""
    answer = chat.create(
        **GREEDY,
        messages=QUESTION,
        context_length_exceeded_behavior="truncate",
        prompt_truncate_len=500,
        frequency_penalty=0.1,
        presence_penalty=0.1,
        repetition_penalty=1.1,
        top_k=40,
        top_p=0.9,
        min_p=0.05,
        typical_p=1,
        mirostat_target=None,
        logit_bias={"100": -1},
        n=2,
        seed=1,
        stop=["zzz"],
        user="somebody",
        metadata={"team": "tests"},
        service_tier="auto",
        prompt_cache_key="a",
        prompt_cache_isolation_key="b",
        safe_tokenization=True,
        thinking={"type": "disabled"},
        stream=False,
    )
    assert len(answer.choices) == 2


def case_mirostat() -> None:
    request = GREEDY | {"temperature": 1, "messages": QUESTION, "seed": 2}
    assert chat.create(**request, mirostat_target=3, mirostat_lr=0.1).choices[0].message.content


def case_predictions() -> None:
    guess = {"type": "content", "content": "The capital of France is Paris."}
    plain = chat.create(**GREEDY, messages=QUESTION).choices[0].message.content
    for rest in ({"prediction": guess}, {"speculation": "The capital"}):
        assert chat.create(**GREEDY, messages=QUESTION, **rest).choices[0].message.content == plain


def case_no_reasoning() -> None:
    plain = chat.create(**GREEDY, messages=QUESTION).choices[0].message.content
    answer = chat.create(**GREEDY, messages=QUESTION, reasoning_effort="none")
    assert answer.choices[0].message.content == plain
    error = refused(messages=QUESTION, reasoning_effort="high")
    assert "reasoning" in str(error)


def case_ignore_eos() -> None:
    request = GREEDY | {"messages": QUESTION, "max_tokens": 20, "ignore_eos": True}
    assert chat.create(**request).usage.completion_tokens == 20


def case_echo() -> None:
    answer = chat.create(**GREEDY, messages=QUESTION, echo=True)
    assert QUESTION[0]["content"] in answer.choices[0].message.content
    plain = chat.create(**GREEDY, messages=QUESTION).choices[0].message.content
    last = chat.create(**GREEDY, messages=QUESTION, echo_last=1).choices[0].message.content
    assert last.endswith(plain)


def case_tokens_and_metrics() -> None:
    request = GREEDY | {
        "messages": QUESTION,
        "max_tokens": 4,
        "return_token_ids": True,
        "raw_output": True,
        "perf_metrics_in_response": True,
    }
    whole = chat.create(**request)
    (choice,) = whole.choices
    assert len(whole.prompt_token_ids) == whole.usage.prompt_tokens
    assert len(choice.token_ids) == whole.usage.completion_tokens
    assert choice.raw_output.completion
    assert choice.raw_output.completion_token_ids == choice.token_ids
    assert choice.raw_output.prompt_token_ids == whole.prompt_token_ids
    assert whole.perf_metrics
    chunks = list(chat.create(**request, stream=True))
    assert chunks[0].prompt_token_ids == whole.prompt_token_ids
    ids = [token for chunk in chunks for token in chunk.choices[0].token_ids or []]
    assert ids == choice.token_ids
    assert chunks[-1].perf_metrics


def case_headers() -> None:
    raw = chat.with_raw_response.create(**GREEDY, messages=QUESTION)
    tokens = raw.parse().usage.prompt_tokens
    assert raw.headers["fireworks-prompt-tokens"] == str(tokens)
    assert int(raw.headers["fireworks-cached-prompt-tokens"]) <= tokens
    first = float(raw.headers["fireworks-server-time-to-first-token"])
    assert 0 < first <= float(raw.headers["fireworks-server-processing-time"])


def case_logprobs() -> None:
    request = GREEDY | {"messages": QUESTION, "max_tokens": 4}
    plain = chat.create(**request).choices[0].message.content
    present = chat.create(**request, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert "".join(token.token for token in present.content) == plain
    assert [len(token.top_logprobs) for token in present.content] == [2] * 4
    legacy = chat.create(**request, logprobs=2).choices[0].logprobs
    assert "".join(legacy.tokens) == plain
    assert legacy.text_offset[0] == 0
    assert len(legacy.token_ids) == len(legacy.token_logprobs) == 4
    for token, logprob, top in zip(
        legacy.tokens, legacy.token_logprobs, legacy.top_logprobs, strict=True
    ):
        assert 2 <= len(top) <= 3
        assert abs(top[token] - logprob) < 1e-6


def case_formats() -> None:
    request = LONG | {"messages": [{"role": "user", "content": "A city and days, in JSON."}]}
    for form in (
        {"type": "json_object", "schema": PLACE},
        {"type": "json_schema", "json_schema": PLACE},
        {"type": "json_schema", "json_schema": {"name": "p", "schema": PLACE, "strict": True}},
    ):
        whole = chat.create(**request, response_format=form).choices[0]
        assert json.loads(whole.message.content)["city"] in {"Paris", "Rome"}
        assert whole.finish_reason == "stop"
    grammar = {"type": "grammar", "grammar": 'root ::= ("ha" | "ho"){2,3} "!"'}
    laughter = chat.create(**request, response_format=grammar).choices[0].message.content
    assert re.fullmatch("(ha|ho){2,3}!", laughter)


def case_tool_round_trip() -> None:
    message = chat.create(**CALLING).choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    for turn in (message, message.model_dump(), message.model_dump(exclude_none=True)):
        messages = [*WEATHER_QUESTION, turn, result]
        answer = chat.create(**GREEDY, messages=messages, tools=[WEATHER], tool_choice="none")
        assert answer.choices[0].message.content
        assert not answer.choices[0].message.tool_calls


def case_call_in_a_stream() -> None:
    chunks = list(chat.create(**CALLING, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert {call.index for call in deltas} == {0}
    assert len([call.id for call in deltas if call.id]) == 1
    assert [call.function.name for call in deltas if call.function.name] == ["get_weather"]
    arguments = "".join(call.function.arguments or "" for call in deltas)
    assert json.loads(arguments)["city"] in {"Paris", "Rome"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def case_full_model_name() -> None:
    """The vendor names models by account; the answer names it as the request did."""
    name = f"accounts/fireworks/models/{MODEL}"
    assert chat.create(**(GREEDY | {"model": name}), messages=QUESTION).model == name


def case_errors() -> None:
    error = refused(messages=QUESTION, extra_body={"foo": 1})
    message = error.body["error"]["message"]
    assert message == "Extra inputs are not permitted, field: 'foo', value: 1"
    error = refused(messages=[{"role": "user", "content": "word " * 9000}])
    assert "prompt is too long" in error.body["error"]["message"]
    try:
        chat.create(**(GREEDY | {"model": "gpt-4"}), messages=QUESTION)
    except fireworks.NotFoundError as missing:
        assert missing.body["error"]["code"] == "NOT_FOUND"  # noqa: PT017
    else:
        raise AssertionError("no error")


def refused(**request: Any) -> fireworks.BadRequestError:
    try:
        chat.create(**GREEDY, **request)
    except fireworks.BadRequestError as error:
        return error
    raise AssertionError("no error")


def counts(usage: Any) -> tuple[int, int, int]:
    """How much of the prompt was cached differs from one call to the next."""
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
