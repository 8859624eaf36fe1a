"""The exact shapes of answers, whole and in pieces."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import pytest

from tests.conftest import MODEL
from tests.contract.callers import Caller, Grpc, Json, Rest, chat, to_proto
from tests.contract.streams import join_stream, without_transient

USAGE = ["prompt_tokens", "total_tokens", "completion_tokens", "prompt_tokens_details"]
IN_HEADERS = [
    "prompt-tokens",
    "cached-prompt-tokens",
    "server-time-to-first-token",
    "server-processing-time",
]
METRICS = [
    *IN_HEADERS,
    "prefill-queue-duration",
    "prefill-duration",
    "generation-duration",
]
ACCEPTANCE = "speculation-acceptance"


def is_bare_uuid4(text: str) -> bool:
    return str(uuid.UUID(text, version=4)) == text


def test_whole(caller: Caller) -> None:
    """An answer has these members in this order, unused ones as null or not at all."""
    answer = caller.whole(chat())
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert is_bare_uuid4(answer["id"])
    assert (answer["object"], answer["model"]) == ("chat.completion", MODEL)
    assert abs(answer["created"] - time.time()) < 60
    (choice,) = answer["choices"]
    assert list(choice) == ["index", "message", "finish_reason", "logprobs"]
    assert (choice["index"], choice["logprobs"]) == (0, None)
    assert list(choice["message"]) == ["role", "content", "refusal"]
    assert (choice["message"]["role"], choice["message"]["refusal"]) == ("assistant", None)


def test_usage(caller: Caller) -> None:
    """Usage counts prompt, total and completion in this order, and what was in the cache."""
    usage = caller.whole(chat())["usage"]
    assert list(usage) == USAGE
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        37,
        4,
        41,
    )
    assert list(usage["prompt_tokens_details"]) == ["cached_tokens"]


def test_prompt_counts_once(caller: Caller) -> None:
    """With n, the prompt's tokens count once and the completions' are summed."""
    usage = caller.whole(chat(n=3, max_tokens=2))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (37, 6)


def test_eos_is_counted(caller: Caller) -> None:
    """The end token is among the completion's tokens, and never text."""
    request = chat("Say: yes", max_tokens=20, return_token_ids=True, logit_bias={"2": 100})
    answer = caller.whole(request)
    (choice,) = answer["choices"]
    assert (choice["token_ids"], choice["message"]["content"]) == ([2], "")
    assert (choice["finish_reason"], answer["usage"]["completion_tokens"]) == ("stop", 1)


def test_pieces(caller: Caller) -> None:
    """A stream is a role, then text, then an empty delta with the reason; ids are the same."""
    pieces = caller.pieces(chat())
    for piece in pieces:
        assert list(piece) == ["id", "object", "created", "model", "choices", "usage"]
        (choice,) = piece["choices"]
        assert list(choice) == ["index", "delta", "finish_reason", "logprobs"]
    assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}
    assert len({(piece["id"], piece["created"], piece["model"]) for piece in pieces}) == 1
    assert is_bare_uuid4(pieces[0]["id"])
    first, *texts, last = [piece["choices"][0] for piece in pieces]
    assert first["delta"] == {"role": "assistant"}
    assert all(list(text["delta"]) == ["content"] and text["delta"]["content"] for text in texts)
    assert last["delta"] == {}
    reasons = [choice["finish_reason"] for choice in (first, *texts, last)]
    assert reasons == [None] * (len(texts) + 1) + ["length"]


def test_choices_interleave(caller: Caller) -> None:
    """With n, roles come first, a piece has one choice, and each choice ends once."""
    pieces = caller.pieces(chat(n=3))
    choices = [choice for piece in pieces for choice in piece["choices"]]
    assert len(choices) == len(pieces)
    assert [choice["index"] for choice in choices[:3]] == [0, 1, 2]
    assert [choice["delta"] for choice in choices[:3]] == [{"role": "assistant"}] * 3
    assert not any("role" in choice["delta"] for choice in choices[3:])
    ended = [choice["index"] for choice in choices if choice["finish_reason"]]
    assert sorted(ended) == [0, 1, 2]


def usages(pieces: list[Json]) -> list[bool]:
    return [piece["usage"] is not None for piece in pieces]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("options", [None, {}, {"include_usage": None}])
def test_usage_rides_on_the_last_piece(caller: Caller, n: int, options: Any) -> None:
    """Unless asked otherwise, usage is on the globally last piece, which has a reason."""
    pieces = caller.pieces(chat(n=n, stream_options=options, max_tokens=2))
    assert usages(pieces) == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1]["choices"][0]["finish_reason"] == "length"
    assert pieces[-1]["usage"]["completion_tokens"] == 2 * n


@pytest.mark.parametrize("n", [1, 2])
def test_usage_apart(caller: Caller, n: int) -> None:
    """With include_usage, usage has a piece without choices, and no other piece has it."""
    pieces = caller.pieces(chat(n=n, stream_options={"include_usage": True}, max_tokens=2))
    assert usages(pieces) == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1]["choices"] == []
    assert pieces[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("n", [1, 2])
def test_usage_opted_out(rest: Rest, n: int) -> None:
    """With include_usage false, no chunk has usage, and the last one still has the reason."""
    pieces = rest.pieces(chat(n=n, stream_options={"include_usage": False}, max_tokens=2))
    assert not any(usages(pieces))
    assert pieces[-1]["choices"][0]["finish_reason"] == "length"


def test_usage_is_always_last_over_grpc(rpc: Grpc) -> None:
    """include_usage false says nothing over gRPC: the last message has usage."""
    pieces = rpc.pieces(chat(stream_options={"include_usage": False}, max_tokens=2))
    assert usages(pieces) == [False] * (len(pieces) - 1) + [True]


def test_extras(caller: Caller) -> None:
    """What was asked for beside the text has its places, whole and in pieces."""
    body = chat(return_token_ids=True, raw_output=True, perf_metrics_in_response=True)
    answer = caller.whole(body)
    assert list(answer)[6:] == ["perf_metrics", "prompt_token_ids"]
    assert list(answer["choices"][0])[4:] == ["token_ids", "raw_output"]
    pieces = caller.pieces(body)
    assert ["prompt_token_ids" in piece for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [("perf_metrics" in p, "raw_output" in p["choices"][0]) for p in pieces] == (
        [(False, False)] * (len(pieces) - 1) + [(True, True)]
    )
    assert without_transient(join_stream(pieces)) == without_transient(answer)


def test_metrics(caller: Caller) -> None:
    """Metrics have the vendor's names, count as usage does, and times are in seconds."""
    answer = caller.whole(chat(perf_metrics_in_response=True))
    metrics, usage = answer["perf_metrics"], answer["usage"]
    assert [name for name in metrics if name != ACCEPTANCE] == METRICS
    assert metrics["prompt-tokens"] == usage["prompt_tokens"]
    assert metrics["cached-prompt-tokens"] == usage["prompt_tokens_details"]["cached_tokens"]
    first, whole = metrics["server-time-to-first-token"], metrics["server-processing-time"]
    assert 0 < first <= whole < 60


def test_acceptance_of_a_prediction(caller: Caller) -> None:
    """With a prediction, metrics say which share of it was right, from 0 to 1."""
    body = chat(temperature=0, max_tokens=24, perf_metrics_in_response=True)
    said = caller.whole(body)["choices"][0]["message"]["content"]
    predicted = body | {"prediction": {"type": "content", "content": said}}
    metrics = caller.whole(predicted)["perf_metrics"]
    assert 0.5 < metrics[ACCEPTANCE] <= 1


def test_acceptance_is_in_the_headers(rest: Rest) -> None:
    """A prediction that is partly right has a share between 0 and 1."""
    body = chat(temperature=0, max_tokens=24)
    said = rest.post(body).json()["choices"][0]["message"]["content"]
    predicted = {"type": "content", "content": said[:20] + " zebra" * 20}
    response = rest.post(body | {"prediction": predicted})
    assert response.status_code == 200
    assert 0 < float(response.headers["fireworks-speculation-acceptance"]) < 1


def test_headers_of_a_whole_answer(rest: Rest) -> None:
    """Counts and times of an answer are in its headers, beside its id."""
    response = rest.post(chat())
    assert response.headers["content-type"] == "application/json"
    assert response.headers["fireworks-prompt-tokens"] == "37"
    assert re.fullmatch(r"\d+", response.headers["fireworks-cached-prompt-tokens"])
    first = float(response.headers["fireworks-server-time-to-first-token"])
    assert 0 < first <= float(response.headers["fireworks-server-processing-time"])
    assert response.headers["x-request-id"]


def test_headers_of_a_stream(rest: Rest) -> None:
    """A stream's headers tell what is known before its first token: the counts."""
    response = rest.post(chat(stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    names = {name for name in response.headers if name.startswith("fireworks-")}
    assert names == {"fireworks-prompt-tokens", "fireworks-cached-prompt-tokens"}


def test_metadata_over_grpc(rpc: Grpc) -> None:
    """gRPC callers find the same in the initial metadata."""
    _, call = rpc.stub.CreateChatCompletion.with_call(to_proto(chat()), timeout=60)
    metadata = dict(call.initial_metadata())
    assert metadata["fireworks-prompt-tokens"] == "37"
    assert {f"fireworks-{name}" for name in IN_HEADERS} <= metadata.keys()
    assert metadata["x-request-id"]


@pytest.mark.parametrize("path", ["/v1", "/inference/v1"])
def test_paths(rest: Rest, path: str) -> None:
    """Chat, the models and one of them are at both of the vendor's paths."""
    answer = rest.http.post(f"{path}/chat/completions", json=chat())
    assert answer.status_code == 200
    listed = rest.http.get(f"{path}/models").json()
    assert list(listed) == ["object", "data"]
    assert listed["object"] == "list"
    assert listed["data"] == [rest.http.get(f"{path}/models/{MODEL}").json()]


def test_model_row(rest: Rest) -> None:
    """A model is described by these members in this order."""
    (model,) = rest.http.get("/v1/models").json()["data"]
    assert list(model.items())[:2] == [("id", MODEL), ("object", "model")]
    assert list(model)[2:] == [
        "created",
        "owned_by",
        "kind",
        "supports_chat",
        "supports_image_input",
        "supports_tools",
        "context_length",
    ]
    assert 0 < model["created"] <= time.time()
    assert (model["owned_by"], model["context_length"]) == ("HuggingFaceTB", 8192)
    assert model["kind"]
    assert (model["supports_chat"], model["supports_image_input"]) == (True, False)


def test_full_model_name(caller: Caller) -> None:
    """A model may be named as the vendor does, by account; the answer repeats that name."""
    name = f"accounts/fireworks/models/{MODEL}"
    body = chat(max_tokens=1) | {"model": name}
    assert caller.whole(body)["model"] == name
    assert {piece["model"] for piece in caller.pieces(body)} == {name}
