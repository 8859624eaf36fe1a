"""Completions of prompts, over REST and over gRPC."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.encode import encoder
from rapport.v1.completion_pb2 import (
    CreateCompletionRequest,
    CreateCompletionResponse,
    StreamCompletionResponse,
)
from rapport.v1.completion_pb2_grpc import CompletionServiceStub
from tests.conftest import MODEL
from tests.contract.callers import Grpc, Json, Rest, events, shown

PATH = "/v1/completions"
PROMPT = "The capital of France is"

to_proto = decoder(CreateCompletionRequest.DESCRIPTOR, ignore_unknown=False)
show_whole = encoder(CreateCompletionResponse.DESCRIPTOR)
show_piece = encoder(StreamCompletionResponse.DESCRIPTOR)


def completion(**fields: Any) -> Json:
    """A short greedy request."""
    return {"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 4} | fields


def whole(rest: Rest, **fields: Any) -> Json:
    response = rest.http.post(PATH, json=completion(**fields))
    assert response.is_success, response.text
    return dict(response.json())


def text(rest: Rest, **fields: Any) -> str:
    (choice,) = whole(rest, **fields)["choices"]
    return str(choice["text"])


def test_both_ways(rest: Rest, rpc: Grpc) -> None:
    """Whole or in pieces, over REST or gRPC: the same text, reason and usage."""
    stub = CompletionServiceStub(rpc.channel)
    request = to_proto(completion())
    wholes = [whole(rest), shown(show_whole, stub.CreateCompletion(request, timeout=60))]
    streamed = [
        events(rest.http.post(PATH, json=completion(stream=True)).text),
        [shown(show_piece, piece) for piece in stub.StreamCompletion(request, timeout=60)],
    ]
    expected = wholes[0]["choices"][0]
    for answer in wholes:
        assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
        assert (uuid.UUID(answer["id"]).version, answer["object"]) == (4, "text_completion")
        assert (answer["model"], answer["choices"]) == (MODEL, [expected])
    assert list(expected) == ["index", "text", "finish_reason", "logprobs"]
    for pieces in streamed:
        assert {piece["object"] for piece in pieces} == {"text_completion"}
        joined = "".join(piece["choices"][0]["text"] for piece in pieces)
        last = pieces[-1]
        assert (joined, last["choices"][0]["finish_reason"]) == (expected["text"], "length")
        assert last["usage"]["completion_tokens"] == 4


def test_forms_of_a_prompt(rest: Rest) -> None:
    """A prompt is a text, some texts, tokens, or lists of tokens."""
    expected = text(rest)
    tokens = rest.http.post("/v1/tokenize", json={"model": MODEL, "text": PROMPT}).json()
    ids = tokens["token_ids"]
    for prompt in ([PROMPT], ids, [ids]):
        assert text(rest, prompt=prompt) == expected
    for several in (["Hi", PROMPT], [ids[:1], ids]):
        first, second = whole(rest, prompt=several)["choices"]
        assert (first["index"], second["index"], second["text"]) == (0, 1, expected)


def test_no_template(rest: Rest) -> None:
    """A prompt is what the model sees; special tokens that it spells out are read as such."""
    plain = whole(rest, return_token_ids=True)["choices"][0]["prompt_token_ids"]
    assert len(plain) == whole(rest)["usage"]["prompt_tokens"] == 5
    special = whole(rest, prompt="<|im_start|>user", return_token_ids=True)["choices"][0]
    assert special["prompt_token_ids"][0] == 1


def test_echo(rest: Rest) -> None:
    """The prompt may come before the completion."""
    assert text(rest, echo=True) == PROMPT + text(rest)


def test_logprobs(rest: Rest) -> None:
    """A count asks for the legacy shape, true for that of chat completions."""
    legacy = whole(rest, logprobs=1)["choices"][0]["logprobs"]
    assert len(legacy["tokens"]) == len(legacy["token_logprobs"]) == 4
    assert "".join(legacy["tokens"]) == text(rest)
    present = whole(rest, logprobs=True)["choices"][0]["logprobs"]
    assert [each["logprob"] for each in present["content"]] == legacy["token_logprobs"]


def test_prompts_are_scored(rest: Rest) -> None:
    """An echoed prompt has the log probabilities with which the model would have said it."""
    asked = {"return_token_ids": True, "temperature": 0}
    (said,) = whole(rest, **asked, logprobs=True, max_tokens=8)["choices"]
    tokens = said["prompt_token_ids"] + said["token_ids"]
    answer = whole(rest, **asked, prompt=[tokens, tokens[:3]], echo=True, logprobs=1, max_tokens=1)
    scored, short = (choice["logprobs"] for choice in answer["choices"])
    values = [entry["logprob"] for entry in said["logprobs"]["content"]]
    assert scored["token_logprobs"][-len(values) - 1 : -1] == pytest.approx(values, abs=0.05)
    assert scored["token_ids"][:-1] == tokens
    assert (scored["token_logprobs"][0], scored["top_logprobs"][0]) == (None, {})
    assert short["token_logprobs"][1:3] == pytest.approx(scored["token_logprobs"][1:3], abs=0.05)


FIELDS: Json = {
    "top_p": 0.5,
    "top_k": 50,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "stop": ["<never>"],
    "response_format": {"type": "text"},
    "stream_options": {"include_usage": True},
    "context_length_exceeded_behavior": "truncate",
    "user": "ada",
    "top_logprobs": 0,
    "logit_bias": {"0": -1},
    "seed": 7,
    "min_p": 0.1,
    "typical_p": 0.9,
    "repetition_penalty": 1,
    "echo_last": 0,
    "ignore_eos": False,
    "perf_metrics_in_response": False,
    "prompt_cache_key": "a",
    "prompt_cache_isolation_key": "b",
    "metadata": {"for": "a test"},
    "service_tier": "auto",
    "safety_identifier": "c",
}


def test_fields(rest: Rest) -> None:
    """All fields are accepted together, and those of this request change nothing."""
    assert text(rest, **FIELDS) == text(rest)
    assert text(rest, **FIELDS, mirostat_target=5, mirostat_lr=0.1)


def test_refusals_name_the_field(rest: Rest) -> None:
    """What is wrong has the path of its field."""
    response = rest.http.post(PATH, json=completion(prompt=["a", ""]))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt[1]")
    long = rest.http.post(PATH, json=completion(prompt="word " * 9000)).json()["error"]
    assert long["message"].startswith("The prompt is too long: ")
    assert long["param"] == "prompt"
