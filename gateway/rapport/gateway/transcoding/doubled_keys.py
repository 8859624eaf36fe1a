"""Finds a key that stands twice in an object of a JSON text. Parsers keep the last one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple


class _Place(NamedTuple):
    """Where a value stands: in what, and the step from there. It becomes a text only if reported.

    A key may have megabytes, and each of the many values below it has its own place.
    """

    parent: _Place | None
    step: str

    def text(self) -> str:
        """`messages[0].content`."""
        steps = []
        place: _Place | None = self
        while place is not None:
            steps.append(place.step)
            place = place.parent
        return "".join(reversed(steps)).removeprefix(".")


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
    stack: list[tuple[_Place | None, Any]] = [(None, root)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, _Doubled):
            return _Place(place, f".{value.key}").text()
        stack.extend((_Place(place, step), inner) for step, inner in _children(value))
    return None


def _children(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    """The objects and lists in an object or list, each with the step that leads to it."""
    if isinstance(value, dict):
        members = ((f".{key}", inner) for key, inner in value.items())
    else:
        members = ((f"[{index}]", inner) for index, inner in enumerate(value))
    return ((step, inner) for step, inner in members if isinstance(inner, dict | list))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    doubled = _Doubled(found)
    doubled.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return doubled


def _no_number(_: str) -> None:
    """Numbers do not matter here, and Python does not convert those of thousands of digits."""
