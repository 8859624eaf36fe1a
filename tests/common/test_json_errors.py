from __future__ import annotations

import json

import orjson
import pytest

from rapport.common.json_errors import json_problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1, column 1 (byte 0): it is empty"),
        ('{"a": 1', "line 1, column 8 (byte 7): the text ends too early"),
        ('{"é":\n tru}', "line 2, column 2 (byte 8): this is not expected"),
        ('{"a": 1}}', "line 1, column 9 (byte 8): the value has ended"),
        ('"a\nb"', "line 1, column 3 (byte 2): a control character in a string is not escaped"),
        ("[1,]", "line 1, column 3 (byte 2): a comma is wrong"),
        ('["\\x"]', "line 1, column 3 (byte 2): JSON has no such escape"),
        ("01", "line 1, column 1 (byte 0): a number begins with 0"),
        ("[" * 2000, "line 1, column 1026 (byte 1025): it is nested too deep"),
    ],
)
def test_problems_have_a_place(text: str, problem: str) -> None:
    """In words that are not the parser's."""
    with pytest.raises(orjson.JSONDecodeError) as raised:
        orjson.loads(text)
    assert json_problem(raised.value) == problem


@pytest.mark.parametrize("text", ["{", "[1 2]", '"\t"', '"a', "[1]2", "{1: 2}", '["\\q"]'])
def test_words_of_the_standard_library(text: str) -> None:
    """The other parser's words do not show, either."""
    with pytest.raises(json.JSONDecodeError) as raised:
        json.loads(text)
    assert raised.value.msg not in json_problem(raised.value)
    assert json_problem(raised.value).startswith("line 1, column ")
