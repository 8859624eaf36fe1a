"""Writing JSON: what is shown, in which order, and how."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from rapport.gateway.transcoding.codec.encode import encoder
from rapport.v1 import chat_pb2, model_pb2
from tests.gateway.library import message


def written(value: Any) -> str:
    return orjson.dumps(encoder(value.DESCRIPTOR)(value)).decode()


def everything(**fields: Any) -> dict[str, Any]:
    shown: dict[str, Any] = orjson.loads(written(message("Everything")(**fields)))
    return shown


def test_empty_message() -> None:
    """Without a value: scalars, lists and maps are shown, the rest only as null if asked for."""
    assert written(message("Everything")()) == (
        '{"a_double":0.0,"a_float":0.0,"an_int32":0,"an_int64":0,"a_uint32":0,"a_uint64":0,'
        '"a_sint64":0,"a_fixed32":0,"a_bool":false,"a_string":"","some_bytes":"",'
        '"maybe_null":null,"null_genre":null,"null_string":null,"re-named":"","texts":[],'
        '"genres":[],"inners":[],"labels":{},"by_number":{},"null_inner":null,"tagged":[],'
        '"raw_text":""}'
    )


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"an_int64": -(2**63)}, {"an_int64": -(2**63)}),
        ({"a_uint64": 2**64 - 1}, {"a_uint64": 2**64 - 1}),
        ({"a_float": 0.1}, {"a_float": 0.1}),
        ({"a_float": 0.1234567}, {"a_float": 0.1234567}),
        ({"a_float": 16777217.0}, {"a_float": 16777216.0}),
        ({"some_bytes": b"\x00\xff"}, {"some_bytes": "AP8="}),
        ({"genre": 1}, {"genre": "novel"}),
        ({"genre": 2}, {"genre": "GENRE_POETRY"}),
        ({"genre": 77}, {"genre": 77}),
        ({"genres": [1, 0, 2]}, {"genres": ["novel", "GENRE_POETRY"]}),
        ({"maybe_genre": 0, "maybe_int": 0}, {"maybe_int": 0}),
        ({"by_truth": {True: 1}}, {"by_truth": {"true": "novel"}}),
        ({"by_number": {-5: {"text": "t"}}}, {"by_number": {"-5": {"text": "t"}}}),
        ({"left": 0}, {"left": 0}),
        ({"empty": {}}, {"empty": {}}),
        ({"wrapped": {"items": [{}]}}, {"wrapped": [{"text": ""}]}),
        ({"anything": {"words": {"items": ["a"]}}}, {"anything": ["a"]}),
        ({"anything": {}}, {}),
        (
            {"beside": {"b": "x", "c": "y"}},
            {"beside": {"first": "b", "b": "x", "second": "c", "c": "y"}},
        ),
    ],
)
def test_values(fields: dict[str, Any], shown: dict[str, Any]) -> None:
    """Each kind of value is shown as its options say."""
    assert everything(**fields) == {**everything(), **shown}


def test_tagged() -> None:
    """The tag stands where the union is, before its payload or the payload's members."""
    for arm, expected in (
        ({"text": "t"}, '{"id":"i","type":"text","text":"t"}'),
        ({"inner": {"text": "t"}}, '{"id":"i","type":"inner","inner":{"text":"t"}}'),
        ({"flat": {"text": "t", "count": 1}}, '{"id":"i","type":"flat","text":"t","count":1}'),
        ({"nothing": {}}, '{"id":"i","type":"nothing"}'),
        ({}, '{"id":"i"}'),
    ):
        assert written(message("Tagged")(id="i", **arm)) == expected


def test_raw_json() -> None:
    """JSON text is spliced in as it is, on one line; what is no JSON is a string."""
    assert '"raw_json":{"b":  1, "a": 2}' in written(
        message("Everything")(raw_json='{"b":  1,\n"a": 2}')
    )
    assert '"raw_json":[1,  2, 3]' in written(message("Everything")(raw_json="[1,\r\n2,\r3]"))
    assert everything(raw_json="{")["raw_json"] == "{"
    assert everything(raw_text="{}")["raw_text"] == "{}"


def test_chat_chunk() -> None:
    """A piece of a chat has the vendor's members in the vendor's order."""
    chunk = chat_pb2.StreamChatCompletionResponse(
        id="i", object="chat.completion.chunk", created=1, model="m"
    )
    chunk.choices.add(index=0).delta.content = "hi"
    assert written(chunk) == (
        '{"id":"i","object":"chat.completion.chunk","created":1,"model":"m","choices":'
        '[{"index":0,"delta":{"content":"hi"},"finish_reason":null,"logprobs":null}],"usage":null}'
    )


def test_inline_response() -> None:
    """A response whose only field is inlined is that field."""
    reply = model_pb2.GetModelResponse(model=model_pb2.Model(id="m"))
    assert written(reply).startswith('{"id":"m","object":""')
