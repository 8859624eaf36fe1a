"""Bodies are parsed, unless they have so many values that all others would wait."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.gateway.errors import ApiError
from rapport.gateway.transcoding import json_body
from rapport.gateway.transcoding.json_body import MAX_VALUES, parse_body

VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('ab,[{}"\\', max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('a,"\\'), inner, max_size=4)
    ),
    max_leaves=30,
)


def refusal(body: bytes) -> str:
    with pytest.raises(ApiError) as raised:
        parse_body(body)
    assert raised.value.status == 400
    return raised.value.message


def count(value: Any) -> int:
    """Commas, and beginnings of lists and objects."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return 1 + max(len(items) - 1, 0) + sum(map(count, items))
    return 0


@pytest.mark.parametrize(
    "part", [b"[],", b"{},", b"1,", b'"",', b'{"a":1},', b"[" * 100 + b"]" * 100 + b","]
)
def test_too_many_values(part: bytes) -> None:
    """Of whatever kind, in a body that is small enough."""
    body = b'{"messages":[' + part * (MAX_VALUES + 1) + b"1]}"
    assert refusal(body) == "The body should have at most 200000 values"


@pytest.mark.parametrize("part", ["a, [b] {c} ", '\\"[', "\\\\,", '\\\\\\",'])
def test_texts_have_no_values(part: str) -> None:
    """A text of millions of commas and brackets, also behind quotes in it, is one value."""
    body = f'{{"text": "{part * MAX_VALUES}"}}'.encode()
    assert parse_body(body) == {"text": json.loads(f'"{part}"') * MAX_VALUES}


def test_just_as_many_as_may_be() -> None:
    """One value less than too many is parsed."""
    body = b'{"a":[' + b"1," * (MAX_VALUES - 2) + b"1]}"
    assert len(parse_body(body)["a"]) == MAX_VALUES - 1
    assert "values" in refusal(b'{"a":[' + b"1," * (MAX_VALUES - 1) + b"1]}")


@given(VALUES, st.integers(0, 40))
def test_values_are_counted_exactly(value: Any, most: int) -> None:
    """Whatever is in strings and keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "MAX_VALUES", most)
        wrapped = {"a": value}
        body = json.dumps(wrapped, ensure_ascii=False, separators=(",", ":")).encode()
        if count(wrapped) <= most:
            assert parse_body(body) == wrapped
        else:
            assert "values" in refusal(body)


@pytest.mark.parametrize("body", [b'"' * 3_000_000, b'"\\' * 1_500_000, b"{" * 3_000_000])
def test_no_json(body: bytes) -> None:
    """However it looks, it is refused."""
    assert refusal(body)


def test_no_object() -> None:
    assert refusal(b"[]") == "Input should be a valid dictionary"


def test_byte_order_mark() -> None:
    """A mark before the body is no part of it."""
    assert parse_body(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("body", "place"),
    [(b'{"a": "\xff"}', 7), (b"\xfe\xff\x00{", 0), (b'{"a": "\xc3\xa9\xe9"}', 9)],
)
def test_not_utf8(body: bytes, place: int) -> None:
    """Bytes of another charset are told of, with the place of the first."""
    assert refusal(body) == f"The body is not valid JSON: byte {place} is not UTF-8"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"a": 1, "a": 2}', "a"),
        ('{"a:b": {"c": [0, {"d": 1, "e": ":", "d": {}}]}}', "a:b.c[1].d"),
        ('{"a": {"x": {"y": 1}}, "b": 1, "a": 1}', "a"),
        ('{"a" : 1, "a":2}', "a"),
        ('{"a"\n\t: 1, "a"\r:2}', "a"),
        ('{"a": [{"\\u0062": 1, "b": 2}]}', "a[0].b"),
    ],
)
def test_doubled_keys(body: str, path: str) -> None:
    """A key that stands twice in an object is refused with its path, at every depth."""
    with pytest.raises(ApiError) as raised:
        parse_body(body.encode())
    assert (raised.value.status, raised.value.param) == (400, path)
    assert raised.value.message == "The key occurs twice in an object"


def test_places_below_a_long_key() -> None:
    """A key of megabytes over many values takes no text for each of them."""
    lists = b",".join([b"[]"] * 200)
    body = b'{"a": {"b": 1, "b": 2}, "' + b"k" * (1 << 20) + b'": [' + lists + b"]}"
    tracemalloc.start()
    try:
        with pytest.raises(ApiError) as raised:
            parse_body(body)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert raised.value.param == "a.b"
    assert peak_bytes < 50 << 20


@given(st.dictionaries(st.text('a:,"\\'), VALUES | st.text('a:,"\\'), max_size=4))
def test_colons_are_no_keys(value: dict[str, Any]) -> None:
    """Whatever is in strings, what has no key twice is parsed."""
    assert parse_body(json.dumps(value).encode()) == value
