"""Scalar values: what each type takes, and what it says of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from rapport.gateway.transcoding.codec.scalars import ScalarError, converter, key_converter, one_of
from tests.gateway.library import message

FIELDS = message("Everything").DESCRIPTOR.fields_by_name


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("an_int32", 3, 3),
        ("an_int32", 3.0, 3),
        ("an_int32", -0.0, 0),
        ("a_uint64", 2**64 - 1, 2**64 - 1),
        ("a_double", 3, 3),
        ("a_double", 0.5, 0.5),
        ("a_float", 3.4028234663852886e38, 3.4028234663852886e38),
        ("a_float", 3.4028235e38, 3.4028235e38),
        ("a_bool", True, True),
        ("a_string", "é", "é"),
        ("some_bytes", "AP8=", b"\x00\xff"),
        ("genre", "novel", 1),
        ("raw_json", False, "false"),
    ],
)
def test_taken(field: str, value: Any, expected: Any) -> None:
    """Each type takes its values, integers also integral floats."""
    converted = converter(FIELDS[field])(value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("an_int32", True, "Input should be a valid integer"),
        ("an_int32", "3", "Input should be a valid integer"),
        ("an_int32", 0.5, "Input should be a valid integer"),
        ("an_int32", float("inf"), "Input should be a valid integer"),
        ("an_int32", 2**31, "Input should be less than or equal to 2147483647"),
        ("an_int32", -(2**31) - 1, "Input should be greater than or equal to -2147483648"),
        ("a_uint32", -1, "Input should be greater than or equal to 0"),
        ("an_int64", -(2.0**63), "Input should be greater than or equal to -9223372036854775808"),
        ("an_int64", 1e30, "Input should be less than or equal to 9223372036854775807"),
        ("a_double", True, "Input should be a valid number"),
        ("a_double", "0.5", "Input should be a valid number"),
        ("a_double", float("inf"), "Input should be a finite number"),
        ("a_float", 1e39, "Input should be less than or equal to 3.4028234663852886e+38"),
        ("a_float", -1e39, "Input should be greater than or equal to -3.4028234663852886e+38"),
        ("a_bool", 1, "Input should be a valid boolean"),
        ("a_string", 1, "Input should be a valid string"),
        ("some_bytes", "é", "Input should be a valid base64 string"),
        ("some_bytes", "A", "Input should be a valid base64 string"),
        ("some_bytes", 1, "Input should be a valid string"),
        ("genre", "GENRE_UNSPECIFIED", "Input should be 'novel' or 'GENRE_POETRY'"),
        ("genre", 1, "Input should be 'novel' or 'GENRE_POETRY'"),
        ("raw_json", None, "Input should be a valid JSON value"),
    ],
)
def test_refused(field: str, value: Any, problem: str) -> None:
    """Nothing is coerced, and numbers are checked against their range."""
    with pytest.raises(ScalarError) as caught:
        converter(FIELDS[field])(value)
    assert str(caught.value) == problem


def test_keys() -> None:
    """Keys are read by the type of the map's keys, each in one spelling only."""
    numbers = key_converter(FIELDS["by_number"].message_type.fields_by_name["key"])
    truths = key_converter(FIELDS["by_truth"].message_type.fields_by_name["key"])
    assert (numbers("-5"), truths("true"), truths("false")) == (-5, True, False)
    for key in ("05", "+5", "1_0", " 5", "5.0", "x", "", "\u0665", str(2**63), "9" * 5000):
        with pytest.raises(ScalarError):
            numbers(key)
    with pytest.raises(ScalarError):
        truths("True")


def test_one_of() -> None:
    """Choices are listed as in a sentence."""
    assert one_of("a") == "Input should be 'a'"
    assert one_of("ab") == "Input should be 'a' or 'b'"
    assert one_of("abc") == "Input should be 'a', 'b' or 'c'"
