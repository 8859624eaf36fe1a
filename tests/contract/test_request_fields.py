"""Every field of a request: what it takes, what it refuses, and its limits."""

from __future__ import annotations

from typing import Any

import pytest

from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from tests.contract.callers import Caller, Json, Rest, chat, content

FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]

# A good value of each field that changes nothing when the answer is greedy and short.
GOOD: Json = {
    "tools": TOOLS,
    "prompt_truncate_len": 100,
    "top_p": 0.5,
    "top_k": 50,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "n": 1,
    "stop": ["<never>"],
    "response_format": {"type": "text"},
    "stream": False,
    "context_length_exceeded_behavior": "truncate",
    "user": "ada",
    "tool_choice": "none",
    "parallel_tool_calls": True,
    "functions": [FUNCTION],
    "function_call": "none",
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {"0": -1},
    "seed": 7,
    "min_p": 0.1,
    "typical_p": 0.9,
    "repetition_penalty": 1,
    "mirostat_target": 5,
    "mirostat_lr": 0.1,
    "stream_options": {"include_usage": True},
    "echo": False,
    "echo_last": 0,
    "ignore_eos": False,
    "raw_output": False,
    "return_token_ids": False,
    "perf_metrics_in_response": False,
    "reasoning_effort": "none",
    "reasoning_history": "disabled",
    "thinking": {"type": "disabled"},
    "prediction": {"type": "content", "content": "Paris"},
    "speculation": "Paris",
    "prompt_cache_key": "a",
    "prompt_cache_isolation_key": "b",
    "safe_tokenization": True,
    "metadata": {"for": "a test"},
    "service_tier": "auto",
    "safety_identifier": "c",
    "store": False,
}
# Fields that `ask` sets itself, or that have another's place.
OWN = {"model", "messages", "max_tokens", "temperature", "max_completion_tokens"}
EXCLUSIVE = {"thinking", "functions", "function_call"}
PRESENT = {key: value for key, value in GOOD.items() if key not in EXCLUSIVE}


def test_every_field_is_tried() -> None:
    """There is no field of a request that this file leaves out."""
    fields = {field.name for field in CreateChatCompletionRequest.DESCRIPTOR.fields}
    assert fields == OWN | GOOD.keys()


@pytest.mark.parametrize("field", GOOD)
def test_accepted(caller: Caller, field: str) -> None:
    """Each field alone is accepted, over REST and over gRPC."""
    assert content(caller.whole(chat(**{field: GOOD[field]}, max_tokens=1)))


def test_accepted_together(caller: Caller) -> None:
    """Fields that do not exclude each other are accepted together."""
    assert content(caller.whole(chat(**PRESENT, max_tokens=1)))


@pytest.mark.parametrize("fields", [GOOD.keys() - {"tools", "functions"}], ids=["all"])
def test_null_is_unset(rest: Rest, fields: set[str]) -> None:
    """null is as good as leaving a field out, for all of them at once."""
    answer = rest.whole(chat(**dict.fromkeys(fields), max_completion_tokens=None))
    assert content(answer) == content(rest.whole(chat()))


def test_langchains_defaults(rest: Rest) -> None:
    """Neutral values that langchain always sends are accepted."""
    assert rest.whole(chat(n=1, stop=None, stream=False))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop", "<never>"),
        ("stop", ["a", "b", "c", "d"]),
        ("stop", []),
        ("stop", ""),
        ("logprobs", 0),
        ("logprobs", 5),
        ("reasoning_effort", False),
        ("speculation", [1, 2, 3]),
        ("prediction", {"type": "content", "content": [{"type": "text", "text": "Paris"}]}),
        ("prediction", "Paris"),
        ("n", 2.0),
        ("seed", -(2**63)),
        ("seed", 2**63 - 1),
        ("temperature", 2),
        ("top_p", 1),
        ("top_k", 100),
        ("frequency_penalty", -2),
        ("presence_penalty", 2),
        ("repetition_penalty", 2),
        ("logit_bias", {"49151": 100, "0": -100}),
        ("service_tier", "default"),
        ("service_tier", "flex"),
        ("service_tier", "priority"),
        ("metadata", {}),
        ("context_length_exceeded_behavior", "error"),
        ("user", "x" * 1024),
    ],
)
def test_other_values(caller: Caller, field: str, value: Any) -> None:
    """Fields take each of their forms, and the limits of their ranges."""
    assert caller.whole(chat(max_tokens=1) | {field: value})


AT_LEAST = "Input should be greater than or equal to"
AT_MOST = "Input should be less than or equal to"
NO_REASONING = "The model does not reason; only a value that means off is possible"
UNSET_WHERE = "Input should be unset where"


@pytest.mark.parametrize(
    ("fields", "param", "expected"),
    [
        ({"max_tokens": 0}, "max_tokens", f"{AT_LEAST} 1"),
        (
            {"max_tokens": None, "max_completion_tokens": 0},
            "max_completion_tokens",
            f"{AT_LEAST} 1",
        ),
        ({"prompt_truncate_len": 0}, "prompt_truncate_len", f"{AT_LEAST} 1"),
        ({"temperature": -0.1}, "temperature", f"{AT_LEAST} 0"),
        ({"temperature": 2.1}, "temperature", f"{AT_MOST} 2"),
        ({"top_p": 1.1}, "top_p", f"{AT_MOST} 1"),
        ({"top_k": -1}, "top_k", f"{AT_LEAST} 0"),
        ({"top_k": 101}, "top_k", f"{AT_MOST} 100"),
        ({"frequency_penalty": -2.1}, "frequency_penalty", f"{AT_LEAST} -2"),
        ({"presence_penalty": 2.1}, "presence_penalty", f"{AT_MOST} 2"),
        ({"n": 0}, "n", f"{AT_LEAST} 1"),
        ({"n": 129}, "n", f"{AT_MOST} 128"),
        ({"min_p": 1.1}, "min_p", f"{AT_MOST} 1"),
        ({"typical_p": -0.1}, "typical_p", f"{AT_LEAST} 0"),
        ({"repetition_penalty": 2.1}, "repetition_penalty", f"{AT_MOST} 2"),
        ({"mirostat_target": -1}, "mirostat_target", f"{AT_LEAST} 0"),
        ({"mirostat_lr": -1}, "mirostat_lr", f"{AT_LEAST} 0"),
        ({"echo_last": -1}, "echo_last", f"{AT_LEAST} 0"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", f"{AT_MOST} 20"),
        ({"top_logprobs": 2}, "top_logprobs", "Input should be unset unless 'logprobs' is true"),
        ({"logprobs": 20}, "logprobs", "logprobs must be between 0 and 5: 20"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", f"{AT_MOST} 100"),
        (
            {"logit_bias": {"49152": 1}},
            "logit_bias.49152",
            "Token id should be between 0 and 49151",
        ),
        ({"stop": ["a"] * 5}, "stop", "List should have at most 4 items after validation, not 5"),
        ({"stop": ["a", ""]}, "stop[1]", "String should have at least 1 character"),
        ({"user": "x" * 1025}, "user", "String should have at most 1024 characters"),
        (
            {"prompt_cache_key": "x" * 1025},
            "prompt_cache_key",
            "String should have at most 1024 characters",
        ),
        ({"store": True}, "store", "Input should be False"),
        (
            {"max_completion_tokens": 5},
            "max_completion_tokens",
            f"{UNSET_WHERE} 'max_tokens' is set",
        ),
        (
            {"reasoning_effort": "none", "thinking": {"type": "disabled"}},
            "thinking",
            f"{UNSET_WHERE} 'reasoning_effort' is set",
        ),
        ({"reasoning_effort": "high"}, "reasoning_effort", NO_REASONING),
        ({"reasoning_effort": "minimal"}, "reasoning_effort", NO_REASONING),
        ({"reasoning_effort": "xhigh"}, "reasoning_effort", NO_REASONING),
        ({"reasoning_effort": "max"}, "reasoning_effort", NO_REASONING),
        ({"reasoning_effort": True}, "reasoning_effort", NO_REASONING),
        ({"reasoning_effort": 100}, "reasoning_effort", NO_REASONING),
        ({"reasoning_history": "preserved"}, "reasoning_history", NO_REASONING),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "thinking", NO_REASONING),
        (
            {"functions": [{"name": "g"}], "tools": TOOLS},
            "functions",
            f"{UNSET_WHERE} 'tools' is set",
        ),
    ],
)
def test_refused(caller: Caller, fields: Json, param: str, expected: str) -> None:
    """A value out of range is refused with its field and limit, in both languages alike."""
    refusal = caller.refusal(chat(**fields))
    assert (refusal.message, refusal.param) == (f"{expected}, field: '{param}'", param)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"n": "1"}, "Input should be a valid integer, field: 'n'"),
        ({"n": 1.5}, "Input should be a valid integer, field: 'n'"),
        ({"temperature": "1"}, "Input should be a valid number, field: 'temperature'"),
        ({"stream": "yes"}, "Input should be a valid boolean, field: 'stream'"),
        ({"seed": 2**63}, f"{AT_MOST} 9223372036854775807, field: 'seed'"),
        ({"metadata": {"a": 1}}, "Input should be a valid string, field: 'metadata.a'"),
        ({"logit_bias": {"a": 1}}, "Input should be a valid integer, field: 'logit_bias.a'"),
        ({"tools": [{"type": "x"}]}, "Input should be 'function', field: 'tools[0].type'"),
        (
            {"context_length_exceeded_behavior": "x"},
            "Input should be 'truncate' or 'error', field: 'context_length_exceeded_behavior'",
        ),
        (
            {"service_tier": "x"},
            "Input should be 'auto', 'default', 'flex' or 'priority', field: 'service_tier'",
        ),
        (
            {"thinking": {"type": "x"}},
            "Input should be 'enabled' or 'disabled', field: 'thinking.type'",
        ),
    ],
)
def test_nothing_is_coerced(rest: Rest, fields: Json, expected: str) -> None:
    """A value of another type is refused in the words of the vendor's validator."""
    assert rest.refusal(chat(**fields)).message == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modalities", ["text"]),
        ("modalities", None),
        ("verbosity", "medium"),
        ("audio", None),
        ("moderation", None),
        ("web_search_options", None),
        ("stream_options", {"include_obfuscation": False}),
        ("messages", [{"role": "user", "content": "Hi", "annotations": []}]),
    ],
)
def test_neutral_values_of_others(rest: Rest, field: str, value: Any) -> None:
    """A field that only others have is accepted where its value asks for nothing."""
    assert rest.whole(chat(max_tokens=1) | {field: value})


def test_foreign_fields_have_a_hint(rest: Rest) -> None:
    """What could not change the answer is refused with the name of the setting that drops it."""
    assert rest.refusal(chat(num_ctx=4096)).message == (
        "Extra inputs are not permitted, field: 'num_ctx', value: 4096 "
        "(dropped where the server's setting unknown_fields is ignore)"
    )


@pytest.mark.parametrize(
    "field",
    [
        "audio",
        "modalities",
        "moderation",
        "verbosity",
        "web_search_options",
        "sampling_mask",
        "prompt_token_ids",
        "min_tokens",
        "forced_generation",
    ],
)
def test_fields_of_others(rest: Rest, field: str) -> None:
    """Fields that only others have are unknown here, and said to be."""
    assert rest.refusal(chat(**{field: {}})).message == (
        f"Extra inputs are not permitted, field: '{field}'"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt_cache_max_len", 0),
        ("prompt_cache_options", {"mode": "explicit"}),
        ("prompt_cache_retention", "24h"),
    ],
)
def test_prompt_cache_fields(rest: Rest, field: str, value: Any) -> None:
    """All fields that begin with prompt_cache_ are accepted and ignored."""
    assert rest.whole(chat(max_tokens=1, **{field: value}))
