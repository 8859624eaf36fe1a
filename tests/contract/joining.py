"""Pieces of a stream, put together the way that clients do it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.contract.callers import Json


def joined(pieces: Iterable[Json]) -> Json:
    """The unary answer that the pieces of a stream say."""
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
    said = [delta["content"] for delta in deltas if "content" in delta]
    made = calls(fragment for delta in deltas for fragment in delta.get("tool_calls", ()))
    text = "".join(said) if said or not made else None
    whole = {"role": deltas[0]["role"], "content": text, "refusal": None}
    return whole | ({"tool_calls": made} if made else {})


def calls(fragments: Iterable[Json]) -> list[Json]:
    """Calls of their fragments: the first has id, type and name, the others arguments alone."""
    made: list[Json] = []
    for fragment in fragments:
        if fragment["index"] == len(made):
            made.append(fragment)
        else:
            assert fragment.keys() == {"index", "function"}
            assert fragment["function"].keys() == {"arguments"}
            made[-1]["function"]["arguments"] += fragment["function"]["arguments"]
    return made


def logprobs(parts: list[Json]) -> Json | None:
    """Lists of log probabilities, each after the other."""
    if not parts:
        return None
    return {name: [entry for part in parts for entry in part[name]] for name in parts[0]}


def comparable(answer: Json) -> Json:
    """What of an answer is the same each time: not its ids, its time and how it was computed."""
    kept: Any = {key: value for key, value in answer.items() if key not in TRANSIENT}
    if kept["usage"]:
        kept["usage"] = {k: v for k, v in kept["usage"].items() if k != "prompt_tokens_details"}
    kept["choices"] = [unnamed(each) for each in kept["choices"]]
    return kept


TRANSIENT = ("id", "created", "perf_metrics")


def unnamed(choice: Json) -> Json:
    """A choice, its calls without their ids."""
    message = choice["message"]
    if "tool_calls" not in message:
        return choice
    bare = [{k: v for k, v in call.items() if k != "id"} for call in message["tool_calls"]]
    return choice | {"message": message | {"tool_calls": bare}}
