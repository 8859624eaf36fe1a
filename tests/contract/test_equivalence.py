"""A stream, joined, is the unary answer, over REST and over gRPC, for all kinds of requests.

Requests run one after the other, each alone, and all of their prompt but its end is known
from before: so both times the same is computed in the same way, down to the last bit.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.callers import Caller, Grpc, Json, Rest, chat, user
from tests.contract.examples import FORMATS, TOOLS, WEATHER
from tests.contract.streams import join_stream, without_transient

bounded = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


known: set[bytes] = set()


def know(caller: Caller, request: Json) -> None:
    """Has the server compute the request's prompt, once."""
    said = {key: request[key] for key in ("model", "messages", "tools") if key in request}
    prompt = orjson.dumps(said)
    if prompt not in known:
        known.add(prompt)
        caller.whole(said | {"max_tokens": 1})


def check(caller: Caller, request: Json) -> Json:
    """The answer to a request, whose stream says the same."""
    know(caller, request)
    whole = without_transient(caller.whole(request))
    assert without_transient(join_stream(caller.pieces(request))) == whole
    return whole


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 12},
        {"temperature": 1.5, "seed": 3, "max_tokens": 12},
        {"n": 3, "temperature": 1.5, "seed": 3},
        {"n": 2, "logprobs": True, "top_logprobs": 2, "temperature": 1, "seed": 1},
        {"logprobs": 3, "temperature": 1, "seed": 2},
        {"stop": ["to", "M"], "logprobs": True},
        {"echo": True, "logprobs": True},
        {"echo_last": 5, "return_token_ids": True, "raw_output": True},
        {"logit_bias": {"2": 100}, "return_token_ids": True},
        {"stream_options": {"include_usage": True}},
        {"mirostat_target": 3, "temperature": 1, "seed": 4},
        {"frequency_penalty": 1, "presence_penalty": 1, "repetition_penalty": 1.2},
    ],
    ids=str,
)
def test_texts(caller: Caller, fields: Json) -> None:
    """Texts, reasons, logprobs, token ids and usage are the same in pieces."""
    check(caller, chat(**fields))


@pytest.mark.parametrize(
    "question", ["Say this: 🦜🏳️‍🌈 日本語", "Repeat: \u200d\u0301é", "<tool_call>"]
)
def test_odd_texts(caller: Caller, question: str) -> None:
    """Characters of several tokens, and what looks like markup, stay whole in pieces."""
    check(caller, chat(question, temperature=1.8, seed=1, max_tokens=16, logprobs=True))


@pytest.mark.parametrize("response_format", FORMATS, ids=lambda each: each["type"])
def test_formats(rest: Rest, response_format: Json) -> None:
    """Constrained output is the same in pieces, finished or cut by length."""
    check(rest, chat(response_format=response_format, max_tokens=16))


CHOICES: list[Json] = [
    {"tool_choice": "required"},
    {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
    {"tool_choice": {"type": "function", "name": "get_time"}, "temperature": 1.5, "seed": 6},
    {"tool_choice": "any", "parallel_tool_calls": False, "logprobs": True},
    {"tool_choice": "required", "max_tokens": 20},
    {"tool_choice": "auto", "max_tokens": 8},
    {"tool_choice": "none", "max_tokens": 8},
]


@pytest.mark.parametrize("fields", CHOICES, ids=str)
def test_calls(rest: Rest, fields: Json) -> None:
    """Fragments of calls join to the calls of the unary answer, finished or cut by length."""
    check(rest, chat(WEATHER, tools=TOOLS, **{"max_tokens": 40} | fields))


def test_formats_and_calls_over_grpc(rpc: Grpc) -> None:
    """Over gRPC, calls and constrained output are the same in pieces as well."""
    check(rpc, chat(WEATHER, tools=TOOLS, tool_choice="required", max_tokens=40))
    check(rpc, chat(response_format=FORMATS[1], max_tokens=16))


def test_both_languages_say_the_same(rest: Rest, rpc: Grpc) -> None:
    """REST and gRPC give one answer to one request."""
    body = chat(temperature=1.5, seed=3, logprobs=True, return_token_ids=True, raw_output=True)
    assert check(rest, body) == check(rpc, body)


SAMPLING: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "top_k": st.integers(0, 100),
    "min_p": st.floats(0, 1),
    "typical_p": st.floats(0, 1),
    "frequency_penalty": st.floats(-2, 2),
    "presence_penalty": st.floats(-2, 2),
    "repetition_penalty": st.floats(0, 2),
    "mirostat_target": st.floats(0, 10),
    "n": st.integers(1, 3),
    "stop": st.text(min_size=1, max_size=2) | st.lists(st.sampled_from("aeio, "), min_size=1),
    "logit_bias": st.dictionaries(st.integers(0, 49151).map(str), st.floats(-100, 100), max_size=3),
    "logprobs": st.booleans() | st.integers(0, 5),
    "echo": st.booleans(),
    "echo_last": st.integers(0, 50),
    "ignore_eos": st.booleans(),
    "return_token_ids": st.booleans(),
    "raw_output": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.just(True)}),
}
SAMPLING["stop"] = SAMPLING["stop"].filter(lambda stop: len(stop) <= 4)
REQUESTS = st.fixed_dictionaries(
    {
        "messages": st.sampled_from([[user("Hi")], [user("🦜 日本語?"), user("<|im_end|>")]]),
        "max_tokens": st.integers(1, 5),
        "seed": st.integers(-(2**63), 2**63 - 1),
    },
    optional=SAMPLING,
)


@bounded
@given(fields=REQUESTS)
def test_any_request(caller: Caller, fields: Json) -> None:
    """Whatever is asked for, the stream says what the unary answer says."""
    check(caller, chat(**fields))
