from __future__ import annotations

import math
import re
from typing import Any

import pytest

from rapport.service.errors import InvalidRequestError
from rapport.service.request.fields import LABELS, NUMBERS
from rapport.service.request.parse import ChatRequest, parse_chat_request
from rapport.service.request.rules import limits_of
from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
    ReasoningEffort,
    ReasoningLevel,
    StopList,
    StopSequences,
    Thinking,
    ThinkingDisabled,
    ThinkingEnabled,
)
from rapport.v1.logprobs_pb2 import LogprobsRequest
from rapport.v1.tool_pb2 import (
    FunctionCallChoice,
    FunctionName,
    NamedToolChoice,
    ToolChoice,
    ToolChoiceMode,
)
from tests.service.requests import chat


def checked(request: CreateChatCompletionRequest, *, streaming: bool = False) -> ChatRequest:
    return parse_chat_request(request, vocabulary_size=1000, streaming=streaming)


def refusal(request: CreateChatCompletionRequest, *, streaming: bool = False) -> str:
    with pytest.raises(InvalidRequestError) as raised:
        checked(request, streaming=streaming)
    return str(raised.value)


LONG = "x" * 1025


def stops(*texts: str) -> StopSequences:
    return StopSequences(list=StopList(items=texts))


def test_least_request() -> None:
    """A model and a message are all that is needed."""
    checked(chat("Hi"))


def test_what_langchain_sends() -> None:
    """Neutral values that clients always send are accepted."""
    checked(
        chat(
            n=1,
            stream=False,
            store=False,
            echo=False,
            parallel_tool_calls=True,
            tool_choice=ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_AUTO),
            metadata={"a": "b"},
            user="u",
            service_tier="SERVICE_TIER_AUTO",
        )
    )


def test_all_violations_are_collected() -> None:
    """All that is wrong is reported at once."""
    text = refusal(CreateChatCompletionRequest(temperature=3))
    assert text == (
        "3 request validation errors: Field required, field: 'model'; "
        "List should have at least 1 item after validation, not 0, field: 'messages'; "
        "Input should be less than or equal to 2, field: 'temperature'"
    )


RANGES = {
    "max_tokens": (1, None),
    "max_completion_tokens": (1, None),
    "prompt_truncate_len": (1, None),
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 100),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0, 2),
    "mirostat_target": (0, None),
    "mirostat_lr": (0, None),
    "n": (1, 128),
    "top_logprobs": (0, 20),
    "echo_last": (0, None),
}


@pytest.mark.parametrize("field", RANGES)
def test_ranges(field: str) -> None:
    """A number outside its range is refused, and the violation names the limit."""
    low, high = RANGES[field]
    if low is not None:
        text = f"Input should be greater than or equal to {low}, field: '{field}'"
        assert refusal(chat(**{field: low - 1})) == text
    if high is not None:
        text = f"Input should be less than or equal to {high}, field: '{field}'"
        assert refusal(chat(**{field: high + 1})) == text


def test_limits_of_the_protos() -> None:
    """Every limit that the proto sets on a single number or text of a request is checked."""
    fields = [
        field for field in CreateChatCompletionRequest.DESCRIPTOR.fields if not field.is_repeated
    ]
    limits = {field.name: limits_of(CreateChatCompletionRequest, field.name) for field in fields}
    limited = {name for name, limit in limits.items() if limit.ListFields()}
    assert limited == {*NUMBERS, *LABELS}
    assert [*NUMBERS] == [*RANGES]


def test_order_of_violations() -> None:
    """Violations come in the order of the rules, not of the fields in the proto."""
    text = refusal(chat(top_p=2, min_p=2, max_completion_tokens=0, n=0, store=True, user=LONG))
    fields = ["max_completion_tokens", "top_p", "min_p", "n", "user", "store"]
    assert re.findall(r"field: '(\w+)'", text) == fields


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k", "n", "presence_penalty"])
def test_limits_are_in_range(field: str) -> None:
    """The limits themselves are accepted."""
    for limit in RANGES[field]:
        checked(chat(**{field: limit}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value: float) -> None:
    """No number is infinite or not a number."""
    expected = "Input should be a finite number, field: 'temperature'"
    assert refusal(chat(temperature=value)) == expected
    assert refusal(chat(logit_bias={1: value})).startswith("Input should be a finite number")


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (
            stops(*"abcde"),
            "List should have at most 4 items after validation, not 5, field: 'stop'",
        ),
        (stops("a", ""), "String should have at least 1 character, field: 'stop[1]'"),
        (
            StopSequences(text="x" * 1001),
            "String should have at most 1000 characters, field: 'stop'",
        ),
    ],
)
def test_stop(stop: StopSequences, expected: str) -> None:
    """There are up to four stop texts, and none of a list is empty or endless."""
    assert refusal(chat(stop=stop)) == expected


@pytest.mark.parametrize(
    ("stop", "texts"),
    [
        (StopSequences(text="x"), ("x",)),
        (stops(*"abcd"), ("a", "b", "c", "d")),
        (StopSequences(), ()),
        (StopSequences(text=""), ()),
        (stops(), ()),
    ],
)
def test_good_stop(stop: StopSequences, texts: tuple[str, ...]) -> None:
    """One text, up to four, or none; an empty text and an empty list are none."""
    assert checked(chat(stop=stop)).stop == texts


def test_logit_bias() -> None:
    """Biases are for tokens that there are, and bounded."""
    checked(chat(logit_bias={0: -100, 999: 100}))
    assert refusal(chat(logit_bias={1000: 1, -1: 0, 5: 101})) == (
        "3 request validation errors: "
        "Token id should be between 0 and 999, field: 'logit_bias.-1'; "
        "Input should be less than or equal to 100, field: 'logit_bias.5'; "
        "Token id should be between 0 and 999, field: 'logit_bias.1000'"
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"max_tokens": 1, "max_completion_tokens": 1},
            "Input should be unset where 'max_tokens' is set, field: 'max_completion_tokens'",
        ),
        (
            {
                "reasoning_effort": ReasoningEffort(enabled=False),
                "thinking": Thinking(disabled=ThinkingDisabled()),
            },
            "Input should be unset where 'reasoning_effort' is set, field: 'thinking'",
        ),
        ({"store": True}, "Input should be False, field: 'store'"),
        ({"user": "u" * 1025}, "String should have at most 1024 characters, field: 'user'"),
        (
            {"context_length_exceeded_behavior": 9},
            "Input should be 'truncate' or 'error', field: 'context_length_exceeded_behavior'",
        ),
        (
            {"service_tier": 9},
            "Input should be 'auto', 'default', 'flex' or 'priority', field: 'service_tier'",
        ),
        (
            {"logprobs": LogprobsRequest(count=20)},
            "logprobs must be between 0 and 5: 20, field: 'logprobs'",
        ),
        (
            {"tool_choice": ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_ANY)},
            "Input should be 'auto' or 'none' without tools, field: 'tool_choice'",
        ),
        (
            {"tool_choice": ToolChoice(named=NamedToolChoice(name="f"))},
            "Input should be 'auto' or 'none' without tools, field: 'tool_choice'",
        ),
        (
            {"function_call": FunctionCallChoice(named=FunctionName(name="f"))},
            "Input should be 'auto' or 'none' without functions, field: 'function_call'",
        ),
    ],
)
def test_rules(fields: dict[str, Any], expected: str) -> None:
    """Each of the remaining rules is reported in its own words."""
    assert refusal(chat(**fields)) == expected


@pytest.mark.parametrize("streaming", [True, False])
def test_stream_agrees_with_the_rpc(streaming: bool) -> None:
    """`stream` may be set if it says what the RPC says."""
    checked(chat(stream=streaming), streaming=streaming)
    expected = f"Input should be {streaming}, or unset, for the RPC called, field: 'stream'"
    assert refusal(chat(stream=not streaming), streaming=streaming) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": ReasoningEffort(enabled=True)},
        {"reasoning_effort": ReasoningEffort(budget=100)},
        {"reasoning_effort": ReasoningEffort(level=ReasoningLevel.REASONING_LEVEL_LOW)},
        {"reasoning_effort": ReasoningEffort(level=ReasoningLevel.REASONING_LEVEL_MINIMAL)},
        {"reasoning_effort": ReasoningEffort(level=ReasoningLevel.REASONING_LEVEL_MAX)},
        {"reasoning_history": "REASONING_HISTORY_PRESERVED"},
        {"thinking": Thinking(enabled=ThinkingEnabled())},
    ],
)
def test_reasoning_is_refused_by_a_model_without(fields: dict[str, Any]) -> None:
    """What asks the model to think is an error that says that it does not."""
    (field,) = fields
    with pytest.raises(InvalidRequestError, match=f"does not reason.*, field: '{field}'"):
        checked(chat(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": ReasoningEffort(enabled=False)},
        {"reasoning_effort": ReasoningEffort(level=ReasoningLevel.REASONING_LEVEL_NONE)},
        {"reasoning_history": "REASONING_HISTORY_DISABLED"},
        {"thinking": Thinking(disabled=ThinkingDisabled())},
    ],
)
def test_reasoning_that_is_off_is_accepted(fields: dict[str, Any]) -> None:
    """What means no reasoning is what the model does anyway."""
    checked(chat(**fields))


def test_alternatives_need_logprobs() -> None:
    """top_logprobs without logprobs would have no effect, so it is refused."""
    with pytest.raises(InvalidRequestError, match="field: 'top_logprobs'"):
        checked(chat(top_logprobs=2))
