"""Unions by JSON type: which arm is taken, and what is said if none fits."""

from __future__ import annotations

from typing import Any

import pytest

from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.violations import InvalidError
from tests.gateway.library import message

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
