"""Reading JSON: strictness, and the texts and paths of violations."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from rapport.gateway.transcoding.codec.decode import MAX_ITEMS, decoder
from rapport.gateway.transcoding.codec.violations import FOREIGN_HINT, MAX_VIOLATIONS, InvalidError
from rapport.v1 import chat_pb2
from tests.gateway.library import message

EVERYTHING = message("Everything").DESCRIPTOR
CHAT = chat_pb2.CreateChatCompletionRequest.DESCRIPTOR


def decode(value: Any, descriptor: Descriptor = EVERYTHING, *, ignore: bool = False) -> Any:
    return decoder(descriptor, ignore_unknown=ignore)(value)


def problems(value: Any, descriptor: Descriptor = EVERYTHING) -> list[str]:
    with pytest.raises(InvalidError) as caught:
        decode(value, descriptor)
    return [str(violation) for violation in caught.value.violations]


EXTRA = "Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"foo": True}, f"{EXTRA}, field: 'foo', value: True"),
        ({"foo": "x"}, f"{EXTRA}, field: 'foo', value: 'x'"),
        ({"foo": None}, f"{EXTRA}, field: 'foo', value: null"),
        ({"foo": {}}, f"{EXTRA}, field: 'foo'"),
        ({"inner": {"foo": [1]}}, f"{EXTRA}, field: 'inner.foo'"),
        (
            {"again": {"inners": [{}, {"foo": 1}]}},
            f"{EXTRA}, field: 'again.inners[1].foo', value: 1",
        ),
        ({"dropped_null": 1}, f"{EXTRA}, field: 'dropped_null', value: 1"),
        ({"neutral": True}, f"{EXTRA}, field: 'neutral', value: True"),
        ({"neutral": 0}, f"{EXTRA}, field: 'neutral', value: 0"),
        ({"foreign": 1}, f"{EXTRA}, field: 'foreign', value: 1{FOREIGN_HINT}"),
        ({"foreign": {}}, f"{EXTRA}, field: 'foreign'{FOREIGN_HINT}"),
        ({"renamed": "x"}, f"{EXTRA}, field: 'renamed', value: 'x'"),
        ({"inner": 1}, "Input should be a valid dictionary, field: 'inner'"),
        ({"labels": []}, "Input should be a valid dictionary, field: 'labels'"),
        ({"labels": {"a": None}}, "Input should be a valid string, field: 'labels.a'"),
        ({"by_number": {"1.0": {}}}, "Input should be a valid integer, field: 'by_number.1.0'"),
        ({"by_number": {"1": 1}}, "Input should be a valid dictionary, field: 'by_number.1'"),
        ({"texts": "x"}, "Input should be a valid list, field: 'texts'"),
        ({"texts": [None]}, "Input should be a valid string, field: 'texts[0]'"),
        ({"inners": [None]}, "Input should be a valid dictionary, field: 'inners[0]'"),
        ({"wrapped": [1]}, "Input should be a valid dictionary, field: 'wrapped[0]'"),
        (
            {"left": 1, "right": {}},
            "Input should not be given with 'left', field: 'right'",
        ),
        ([], "Input should be a valid dictionary"),
    ],
)
def test_violation(value: Any, expected: str) -> None:
    """Each kind of wrong input has its text and its path."""
    assert problems(value) == [expected]


def test_what_is_accepted() -> None:
    """null is unset, dropped members are dropped, unknown ones where that is the setting."""
    assert decode(
        dict.fromkeys(field.name for field in EVERYTHING.fields if field.number != 25)
    ) == (message("Everything")())
    assert decode({"dropped": 1, "dropped_null": None}) == message("Everything")()
    assert decode({"neutral": False}) == decode({"neutral": None}) == message("Everything")()
    assert decode({"foreign": 1}, ignore=True) == message("Everything")()
    assert decode({"empty": {}}).HasField("empty")
    assert decode({"foo": 1, "inner": {"bar": 2}}, ignore=True).HasField("inner")


def test_raw() -> None:
    """RAW_JSON takes any JSON, RAW_TEXT an object or list besides text; order is kept."""
    assert decode({"raw_json": {"b": 1, "a": [2]}}).raw_json == '{"b":1,"a":[2]}'
    assert decode({"raw_json": '{"b": 1}'}).raw_json == '{"b": 1}'
    assert decode({"raw_text": {"b": 1}}).raw_text == '{"b":1}'
    assert problems({"raw_text": 1}) == ["Input should be a valid string, field: 'raw_text'"]
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert problems({"raw_json": deep}) == [
        "Input should not be nested so deeply, field: 'raw_json'"
    ]


def test_nesting_is_limited() -> None:
    """A message nested deeper than protobuf reads is refused, not an error of the server."""
    deep: Any = {}
    for _ in range(80):
        deep = {"again": deep}
    decode(deep).SerializeToString()
    for _ in range(900):
        deep = {"again": deep}
    assert problems(deep) == ["Input should not be nested so deeply"]


def test_paths_of_the_chat_contract() -> None:
    """The violations of the vendor's API are reproduced, arms of unions among the path."""
    part = {"type": "text", "text": "a"}
    value = {"messages": [{"content": [part, {**part, "index": 3}]}]}
    assert problems(value, CHAT) == [
        f"{EXTRA}, field: 'messages[0].content.list[ChatMessageContent][1].index', value: 3"
    ]
    with pytest.raises(InvalidError) as caught:
        decode(value, CHAT)
    assert caught.value.param == "messages[0].content[1].index"
    assert problems({"messages": [{"content": 5}]}, CHAT) == [
        "Input should be a valid string, field: 'messages[0].content.str'",
        "Input should be a valid list, field: 'messages[0].content.list[ChatMessageContent]'",
    ]
    assert problems({"tools": [{"type": "fun"}]}, CHAT) == [
        "Input should be 'function', field: 'tools[0].type'"
    ]
    assert problems({"stream_options": {"foo": True}, "seed": "1"}, CHAT) == [
        f"{EXTRA}, field: 'stream_options.foo', value: True",
        "Input should be a valid integer, field: 'seed'",
    ]


def test_replayed_messages_are_taken() -> None:
    """What clients send back of an answer is read, its empty members dropped."""
    replayed = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "provider_specific_fields": {"x": 1},
        "tool_calls": [
            {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}
        ],
    }
    read = decode({"messages": [replayed]}, CHAT).messages[0]
    assert read.tool_calls[0].function.arguments == "{}"
    assert not read.HasField("content")
    assert problems({"messages": [{"refusal": "no"}]}, CHAT) == [
        f"{EXTRA}, field: 'messages[0].refusal', value: 'no'"
    ]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"messages": [{}] * (MAX_ITEMS + 1)}, "messages"),
        ({"stop": ["x"] * (MAX_ITEMS + 1)}, "stop.list[str]"),
        ({"logit_bias": {str(key): 0 for key in range(MAX_ITEMS + 1)}}, "logit_bias"),
    ],
)
def test_long_lists_are_not_read(value: Any, field: str) -> None:
    """A list or map that no request needs costs nothing but its parsing."""
    refusal = f"Input should have at most {MAX_ITEMS} items, field: '{field}'"
    assert problems(value, CHAT) == [refusal]


def test_just_as_many_items_as_may_be() -> None:
    """The longest list and the longest map are read."""
    texts = decode({"stop": ["x"] * MAX_ITEMS}, CHAT).stop.list.items
    assert len(texts) == MAX_ITEMS
    biases = decode({"logit_bias": {str(key): 0 for key in range(MAX_ITEMS)}}, CHAT).logit_bias
    assert len(biases) == MAX_ITEMS


def test_a_flood_of_mistakes_ends() -> None:
    """Of very many mistakes some are refusal."""
    found = problems({str(key): 0 for key in range(MAX_VIOLATIONS * 2)}, CHAT)
    assert len(found) == MAX_VIOLATIONS
