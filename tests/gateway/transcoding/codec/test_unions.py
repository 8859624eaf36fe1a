"""Unions by JSON type: which arm is taken, and what is said if none fits."""

from __future__ import annotations

from typing import Any

import pytest

from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.violations import InvalidError
from rapport.v1.completion_pb2 import CompletionPrompt
from tests.gateway.library import message

PROMPT = decoder(CompletionPrompt.DESCRIPTOR, ignore_unknown=False)
DECODE = decoder(message("Anything").DESCRIPTOR, ignore_unknown=False)


@pytest.mark.parametrize(
    ("value", "arm"),
    [
        (True, "truth"),
        (1, "whole"),
        (1.0, "fraction"),
        (1.5, "fraction"),
        ("x", "text"),
        ([], "words"),
        ({"left": 1}, "left"),
        ({"right": 1}, "right"),
        ({"genre": "novel"}, "right"),
        ({}, "left"),
    ],
)
def test_arm(value: Any, arm: str) -> None:
    """The arm is that of the JSON type, of objects the first that knows all members."""
    assert DECODE(value).WhichOneof("kind") == arm


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"other": 1}, ["Extra inputs are not permitted, field: 'Left.other', value: 1"]),
        ([1], ["Input should be a valid string, field: 'list[str][0]'"]),
        (2**31, ["Input should be less than or equal to 2147483647, field: 'int'"]),
    ],
)
def test_only_the_fitting_arm_is_reported(value: Any, expected: list[str]) -> None:
    """If an arm takes the JSON type, only what is wrong with that arm is said."""
    with pytest.raises(InvalidError) as caught:
        DECODE(value)
    assert [str(violation) for violation in caught.value.violations] == expected


@pytest.mark.parametrize(
    ("value", "arm"),
    [
        ("a", "text"),
        (["a", "b"], "texts"),
        ([], "texts"),
        ([1, 2], "token_ids"),
        ([1.0], "token_ids"),
        ([[1], [2, 3]], "token_lists"),
        ([[]], "token_lists"),
    ],
)
def test_lists_are_told_apart_by_their_first_item(value: Any, arm: str) -> None:
    """Of several arms that take lists, the one that takes the first item is chosen."""
    assert PROMPT(value).WhichOneof("kind") == arm


def test_an_item_that_no_arm_takes() -> None:
    """If no arm takes the first item, the first arm says what it should be."""
    with pytest.raises(InvalidError, match=r"valid string, field: 'list\[str\]\[0\]'$"):
        PROMPT([None])


def test_no_arm_fits() -> None:
    """If no arm takes the JSON type, each says what it should be."""
    with pytest.raises(InvalidError) as caught:
        DECODE(None)
    assert [violation.where.text() for violation in caught.value.violations] == [
        "bool",
        "int",
        "float",
        "str",
        "list[str]",
        "Left",
        "Right",
    ]
    assert caught.value.param is None
