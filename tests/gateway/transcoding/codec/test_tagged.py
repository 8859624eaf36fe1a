"""Tagged unions: the arm that the tag names, and what is said of others."""

from __future__ import annotations

from typing import Any

import pytest

from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.violations import InvalidError
from rapport.v1.chat_pb2 import Prediction
from tests.gateway.library import message

DECODE = decoder(message("Everything").DESCRIPTOR, ignore_unknown=False)
EXTRA = "Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"tagged": [{}]}, "Field required, field: 'tagged[0].type'"),
        (
            {"tagged": [{"type": "x"}]},
            "Input should be 'text', 'inner', 'flat', 'nothing' or 'any', field: 'tagged[0].type'",
        ),
        ({"tagged": [{"type": "text"}]}, "Field required, field: 'tagged[0].text'"),
        (
            {"tagged": [{"type": "text", "text": None}]},
            "Input should be a valid string, field: 'tagged[0].text'",
        ),
        (
            {"tagged": [{"type": "text", "text": "", "inner": {}}]},
            f"{EXTRA}, field: 'tagged[0].inner'",
        ),
        (
            {"tagged": [{"type": "flat", "count": "1"}]},
            "Input should be a valid integer, field: 'tagged[0].count'",
        ),
        (
            {"tagged": [{"type": "nothing", "count": 1}]},
            f"{EXTRA}, field: 'tagged[0].count', value: 1",
        ),
        ({"beside": {"first": "a", "a": ""}}, "Field required, field: 'beside.second'"),
    ],
)
def test_violation(value: Any, expected: str) -> None:
    """A tag that is missing or wrong, and a payload that is, is said to be."""
    with pytest.raises(InvalidError) as caught:
        DECODE(value)
    assert str(caught.value) == expected


def test_arms() -> None:
    """The tag chooses; a flat payload stands beside it; arms that are null are not set."""
    unset = {"type": "text", "text": "t", "inner": None, "count": None}
    [text, nothing, flat] = DECODE(
        {"tagged": [unset, {"type": "nothing"}, {"type": "flat", "count": 3}]}
    ).tagged
    assert text.WhichOneof("kind") == "text"
    assert nothing.HasField("nothing")
    assert flat.flat.count == 3


def test_a_text_in_place_of_the_object() -> None:
    """Where an option names the arm, a string is its payload."""
    decode = decoder(Prediction.DESCRIPTOR, ignore_unknown=False)
    assert decode("so") == decode({"type": "content", "content": "so"})
    with pytest.raises(InvalidError, match="valid dictionary"):
        decode(1)


def test_two_unions_in_one_object() -> None:
    """An object may hold several, each with its tag."""
    both = {"first": "b", "b": "x", "second": "c", "c": "y"}
    assert (DECODE({"beside": both}).beside.b, DECODE({"beside": both}).beside.c) == ("x", "y")
