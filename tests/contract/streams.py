"""Joins the messages of a stream to one answer, as clients do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.contract.callers import Json


def join_stream(pieces: Iterable[Json]) -> Json:
    """The unary answer that is equal to the messages of a stream."""
    pieces = list(pieces)
    envelope = {name: pieces[0][name] for name in ("id", "created", "model")}
    rest = [piece for piece in pieces if piece.get("usage")]
    deltas = [choice for piece in pieces for choice in piece["choices"]]
    indices = sorted({delta["index"] for delta in deltas})
    answer = envelope | {
        "object": "chat.completion",
        "choices": [choice(index, deltas) for index in indices],
        "usage": rest[-1]["usage"] if rest else None,
    }
    return answer | {key: piece[key] for piece in pieces for key in EXTRAS if key in piece}


EXTRAS = ("perf_metrics", "prompt_token_ids")


def choice(index: int, deltas: Iterable[Json]) -> Json:
    own = [delta for delta in deltas if delta["index"] == index]
    whole: Json = {
        "index": index,
        "message": message([delta["delta"] for delta in own]),
        "finish_reason": own[-1]["finish_reason"],
        "logprobs": logprobs([delta["logprobs"] for delta in own if delta["logprobs"]]),
    }
    tokens = [token for delta in own for token in delta.get("token_ids", ())]
    extras = {"token_ids": tokens} if tokens else {}
    raw = {"raw_output": own[-1]["raw_output"]} if "raw_output" in own[-1] else {}
    return whole | extras | raw


def message(deltas: list[Json]) -> Json:
    texts = [delta["content"] for delta in deltas if "content" in delta]
    tool_calls = join_calls(
        fragment for delta in deltas for fragment in delta.get("tool_calls", ())
    )
    text = "".join(texts) if texts or not tool_calls else None
    whole = {"role": deltas[0]["role"], "content": text, "refusal": None}
    return whole | ({"tool_calls": tool_calls} if tool_calls else {})


def join_calls(fragments: Iterable[Json]) -> list[Json]:
    """Joins fragments to calls. The first has id, type and name, the others only arguments."""
    calls: list[Json] = []
    for fragment in fragments:
        if fragment["index"] == len(calls):
            calls.append(fragment)
        else:
            assert fragment.keys() == {"index", "function"}
            assert fragment["function"].keys() == {"arguments"}
            calls[-1]["function"]["arguments"] += fragment["function"]["arguments"]
    return calls


def logprobs(parts: list[Json]) -> Json | None:
    """The lists of log probabilities, concatenated."""
    if not parts:
        return None
    return {name: [entry for part in parts for entry in part[name]] for name in parts[0]}


def without_transient(answer: Json) -> Json:
    """The parts of an answer that are equal each time: not ids, times and performance metrics."""
    kept: Any = {key: value for key, value in answer.items() if key not in TRANSIENT}
    if kept["usage"]:
        kept["usage"] = {k: v for k, v in kept["usage"].items() if k != "prompt_tokens_details"}
    kept["choices"] = [without_call_ids(each) for each in kept["choices"]]
    return kept


TRANSIENT = ("id", "created", "perf_metrics")


def without_call_ids(choice: Json) -> Json:
    """A choice without the ids of its calls."""
    message = choice["message"]
    if "tool_calls" not in message:
        return choice
    bare = [{k: v for k, v in call.items() if k != "id"} for call in message["tool_calls"]]
    return choice | {"message": message | {"tool_calls": bare}}
