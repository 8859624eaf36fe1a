from __future__ import annotations

import pytest

from service.errors import InvalidRequest
from service.formats.strict_json import MOST_BYTES, MOST_DEPTH, parse


def test_keys_keep_their_order() -> None:
    """Objects come with their keys as they were written."""
    assert list(parse('{"z": 1, "a": {}, "m": []}', "f")) == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": 2, "a": 3}', 'the key "a" occurs twice'),
        ("NaN", "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("1e999", "the number 1e999 is too large"),
        ("9" * 5000, "valid JSON"),
        ("{", "valid JSON"),
        ("", "valid JSON"),
        ("[" * 100_000, "nested at most"),
        ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "nested at most"),
        (f'"{"x" * MOST_BYTES}"', "at most"),
    ],
)
def test_odd_json_is_refused(text: str, reason: str) -> None:
    """What is no JSON, ambiguous or too large is a fault of the field."""
    with pytest.raises(InvalidRequest, match=reason) as caught:
        parse(text, "response_format.schema")
    assert [v.field for v in caught.value.violations] == ["response_format.schema"]
