"""Resolves the `$ref`s of a JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any
from urllib.parse import unquote

DEFINITIONS = ("$defs", "definitions")
# Digits of an item number in a pointer. Python refuses to convert numbers of thousands of digits.
MAX_INDEX_DIGITS = 9


class UnresolvedReferenceError(Exception):
    """The reference does not lead to a schema in its document."""


class References:
    """The references inside of one document. Nothing is ever fetched."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._base = root.get("$id", "") if isinstance(root, dict) else ""

    def resolve(self, reference: str) -> Any:
        """The schema that a reference points to.

        A definition that the root does not have is searched in the whole document.

        Raises:
            UnresolvedReferenceError: there is no such schema in the document.
        """
        base, _, fragment = reference.partition("#")
        if base and base != str(self._base).rstrip("#"):
            raise UnresolvedReferenceError("it leads out of the document")
        fragment = unquote(fragment)
        found = self._follow(fragment) if fragment[:1] in ("", "/") else self._find_anchor(fragment)
        if not isinstance(found, dict | bool):
            raise UnresolvedReferenceError("no schema is there")
        return found

    def _follow(self, pointer: str) -> Any:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        found = self._root
        for step in steps:
            found = _child(found, step)
        if found is None and len(steps) == len(("$defs", "name")) and steps[0] in DEFINITIONS:
            return self._index.get((steps[0], steps[1]))
        return found

    def _find_anchor(self, anchor: str) -> Any:
        return self._index.get(("$anchor", anchor))

    @cached_property
    def _index(self) -> dict[tuple[str, str], Any]:
        """All nested definitions and anchors. The first of a name counts."""
        found: dict[tuple[str, str], Any] = {}
        for schema in _objects(self._root):
            if isinstance(anchor := schema.get("$anchor"), str):
                found.setdefault(("$anchor", anchor), schema)
            for keyword in DEFINITIONS:
                if isinstance(definitions := schema.get(keyword), dict):
                    for name, definition in definitions.items():
                        found.setdefault((keyword, name), definition)
        return found


def field_path(reference: str) -> str:
    """The pointer of a reference as the end of a field path, such as `.$defs.name`."""
    _, _, pointer = reference.partition("#/")
    return "".join(f".{step}" for step in pointer.split("/") if step)


def _child(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdecimal() and len(step) <= MAX_INDEX_DIGITS:
        return value[int(step)] if int(step) < len(value) else None
    return None


def _objects(root: Any) -> Iterator[dict[str, Any]]:
    """All objects of a document in the order of the text, each before those inside of it."""
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(reversed(value.values()))
        elif isinstance(value, list):
            stack.extend(reversed(value))
