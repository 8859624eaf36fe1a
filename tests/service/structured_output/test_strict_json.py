from __future__ import annotations

import time

import pytest

from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.strict_json import MAX_BYTES, MAX_DEPTH, parse_json


def test_keys_keep_their_order() -> None:
    """Objects come with their keys as they were written."""
    assert list(parse_json('{"z": 1, "a": {}, "m": []}', "f")) == ["z", "a", "m"]


def test_pairs_of_halves_are_characters() -> None:
    """Half a character is none, two are one."""
    assert parse_json(r'"\ud83d\ude00"', "f") == "\N{GRINNING FACE}"


def test_a_late_repeated_key_is_found_at_once() -> None:
    """Among the most keys that fit, in time that grows with their number alone."""
    keys = ",".join(f'"{number:x}":0' for number in range(26_000))
    began = time.process_time()
    with pytest.raises(InvalidRequestError, match='the key "last" occurs twice'):
        parse_json(f'{{{keys},"last":0,"last":0}}', "f")
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": 2, "a": 3}', 'the key "a" occurs twice'),
        (r'"\ud800"', "Strings should be valid Unicode"),
        (r'{"a": [{"\udfff": 1}]}', "Strings should be valid Unicode"),
        ("NaN", "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("1e999", "the number 1e999 is too large"),
        ("9" * 5000, "a number has more than 1000 digits"),
        ("{", "valid JSON"),
        ("", "valid JSON"),
        ("[" * 100_000, "nested at most"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested at most"),
        (f'"{"x" * MAX_BYTES}"', "at most"),
    ],
)
def test_odd_json_is_refused(text: str, reason: str) -> None:
    """What is no JSON, ambiguous or too large is a fault of the field."""
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        parse_json(text, "response_format.schema")
    assert [v.field for v in caught.value.violations] == ["response_format.schema"]
