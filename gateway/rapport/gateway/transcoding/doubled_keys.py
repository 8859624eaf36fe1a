"""Finds a key that stands twice in an object of a JSON text. Parsers keep the last one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any


class _Doubled(dict[str, Any]):
    """An object that has a key twice."""

    key = ""


def key_count(value: Any) -> int:
    """How many keys the objects of a parsed text have together."""
    count = 0
    stack = [value]
    while stack:
        inner = stack.pop()
        if isinstance(inner, dict):
            count += len(inner)
            stack.extend(inner.values())
        elif isinstance(inner, list):
            stack.extend(inner)
    return count


def doubled_key(body: bytes) -> str | None:
    """The path of a key that stands twice in an object, if there is one.

    Raises:
        RecursionError: the text is nested too deep.
    """
    root = json.loads(body, object_pairs_hook=_object, parse_int=_no_number, parse_float=_no_number)
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, _Doubled):
            return f"{path}.{value.key}".removeprefix(".")
        stack.extend(_children(path, value))
    return None


def _children(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((f"{path}.{key}".removeprefix("."), inner) for key, inner in value.items())
    if isinstance(value, list):
        return ((f"{path}[{i}]", inner) for i, inner in enumerate(value))
    return iter(())


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    doubled = _Doubled(found)
    doubled.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return doubled


def _no_number(_: str) -> None:
    """Numbers do not matter here, and Python does not convert those of thousands of digits."""
