"""Parses JSON bodies, unless they have so many values that all others would wait."""

from __future__ import annotations

from codecs import BOM_UTF8
from typing import Any

import orjson

from rapport.common.json_errors import json_problem
from rapport.gateway.errors import bad_request
from rapport.gateway.transcoding.doubled_keys import doubled_key, key_count

# orjson parses a body in one go, while all other threads of the process wait. How long it takes
# depends on the number of values; of these it takes some 40 ms.
MAX_VALUES = 200_000
STARTS_OF_VALUES = (b",", b"[", b"{")
ENDS_OF_KEYS = (b'":', b" :", b"\n:", b"\t:", b"\r:")


def parse_body(body: bytes) -> dict[str, Any]:
    """The object that a body has.

    Raises:
        ApiError: it is no JSON, no object, has too many values, or has a key twice in an object.
    """
    body = body.removeprefix(BOM_UTF8)
    if _count(body) > MAX_VALUES and _count(_without_strings(body)) > MAX_VALUES:
        raise bad_request(f"The body should have at most {MAX_VALUES} values")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The body is not valid JSON: {_problem(body, error)}") from error
    if not isinstance(value, dict):
        raise bad_request("Input should be a valid dictionary")
    _refuse_doubled_keys(body, value)
    return value


def _refuse_doubled_keys(body: bytes, value: dict[str, Any]) -> None:
    """Refuses a key that stands twice: of its values the parser has kept the last.

    Each key has a colon behind a quote or a blank, so that these are counted first, then the
    colons outside of strings. Only if not as many keys were kept, the body is parsed again.
    """
    kept = key_count(value)
    if kept == sum(map(body.count, ENDS_OF_KEYS)) or kept == _without_strings(body).count(b":"):
        return
    try:
        path = doubled_key(body)
    except RecursionError:
        raise bad_request("The body is not valid JSON: it is nested too deep") from None
    if path is not None:
        raise bad_request("The key occurs twice in an object", param=path)


def _problem(body: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as no_utf8:
        return f"byte {no_utf8.start} is not UTF-8"
    return json_problem(error)


def _count(text: bytes) -> int:
    """How many values there are at most, those in strings included."""
    return sum(map(text.count, STARTS_OF_VALUES))


def _without_strings(body: bytes) -> bytes:
    """A body without the content of its strings, or the beginning of it if there are very many."""
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    parts = unescaped.split(b'"', 4 * MAX_VALUES)
    # Every second part is a string, and at least every second of them stands behind a `,` or `{`.
    return b"".join(parts[::2])
