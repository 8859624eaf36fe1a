"""Where the `$ref`s of a JSON Schema lead."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any
from urllib.parse import unquote

DEFINITIONS = ("$defs", "definitions")
# Of the number of an item; Python takes no numbers of thousands.
MOST_DIGITS = 9


class UnresolvedError(Exception):
    """The reference leads nowhere in its document."""


class References:
    """The references inside one document; nothing is ever fetched."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._base = root.get("$id", "") if isinstance(root, dict) else ""

    def resolve(self, reference: str) -> Any:
        """The schema that a reference means.

        A definition that the root lacks is looked for in the whole document.

        Raises:
            UnresolvedError: there is none.
        """
        base, _, fragment = reference.partition("#")
        if base and base != str(self._base).rstrip("#"):
            raise UnresolvedError("it leads out of the document")
        fragment = unquote(fragment)
        found = self._follow(fragment) if fragment[:1] in ("", "/") else self._anchored(fragment)
        if not isinstance(found, dict | bool):
            raise UnresolvedError("no schema is there")
        return found

    def _follow(self, pointer: str) -> Any:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        found = self._root
        for step in steps:
            found = child(found, step)
        if found is None and len(steps) == len(("$defs", "name")) and steps[0] in DEFINITIONS:
            return self._index.get((steps[0], steps[1]))
        return found

    def _anchored(self, anchor: str) -> Any:
        return self._index.get(("$anchor", anchor))

    @cached_property
    def _index(self) -> dict[tuple[str, str], Any]:
        """All nested definitions and anchors; the first of a name counts."""
        found: dict[tuple[str, str], Any] = {}
        for place in places(self._root):
            if isinstance(anchor := place.get("$anchor"), str):
                found.setdefault(("$anchor", anchor), place)
            for keyword in DEFINITIONS:
                if isinstance(held := place.get(keyword), dict):
                    for name, schema in held.items():
                        found.setdefault((keyword, name), schema)
        return found


def dotted(reference: str) -> str:
    """A reference's pointer as the end of a path."""
    _, _, pointer = reference.partition("#/")
    return "".join(f".{step}" for step in pointer.split("/") if step)


def child(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdecimal() and len(step) <= MOST_DIGITS:
        return value[int(step)] if int(step) < len(value) else None
    return None


def places(root: Any) -> Iterator[dict[str, Any]]:
    """All objects in a document, each before those inside it, in the order of the text."""
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))
