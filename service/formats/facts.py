"""What the parts of a schema that always apply say together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from service.formats.budget import Budget
from service.formats.keywords import SHAPES, meaning
from service.formats.references import References, UnresolvedError

NUMBERS = {"integer", "number"}


@dataclass(slots=True)
class Facts:
    """A schema together with its `allOf`s and `$ref`s; alternatives are kept apart."""

    types: set[str] | None = None
    values: list[Any] | None = None
    properties: dict[str, list[Any]] = field(default_factory=dict)
    patterns: dict[str, None] = field(default_factory=dict)
    required: dict[str, None] = field(default_factory=dict)
    closures: list[set[str]] = field(default_factory=list)
    """The keys that a part without patterns leaves possible, for each that says so."""
    closes: bool = False
    """Whether keys that are not named are to be kept out, though nothing says so."""
    stays_open: bool = False
    """Whether something is said about the keys that are not named."""
    groups: list[list[Any]] = field(default_factory=list)
    """Alternatives, of each of which at least one applies too."""

    @property
    def names(self) -> set[str]:
        return {*self.properties, *self.required}

    def excludes(self, name: str) -> bool:
        """Whether the schema itself forbids a key."""
        return any(name not in closure for closure in self.closures)


class FactFinder:
    """Finds the facts of the schemas of one document, of each once."""

    def __init__(self, references: References, budget: Budget) -> None:
        self._references = references
        self._budget = budget
        self._found: dict[int, Facts] = {}

    def facts(self, schema: Any) -> Facts:
        if id(schema) not in self._found:
            facts = self._found[id(schema)] = Facts()
            for part in self._parts(schema):
                add(facts, part)
        return self._found[id(schema)]

    def _parts(self, schema: Any) -> Iterator[dict[str, Any]]:
        seen: set[int] = set()
        waiting = [schema]
        while waiting:
            part = waiting.pop(0)
            if not isinstance(part, dict) or id(part) in seen:
                continue
            seen.add(id(part))
            self._budget.spend()
            said = {k: v for k, v in meaning(part).items() if k in SHAPES and SHAPES[k][0](v)}
            yield said
            waiting += said.get("allOf", [])
            if "$ref" in said:
                waiting += self._target(said["$ref"])

    def _target(self, reference: str) -> list[Any]:
        try:
            return [self._references.resolve(reference)]
        except UnresolvedError:
            return []


def add(facts: Facts, part: dict[str, Any]) -> None:
    """Adds what one part says."""
    if "type" in part:
        types = part["type"] if isinstance(part["type"], list) else [part["type"]]
        facts.types = common_types(facts.types, set(types))
    values = [part["const"]] if "const" in part else part.get("enum")
    if values is not None:
        facts.values = values if facts.values is None else common(facts.values, values)
    for name, schema in part.get("properties", {}).items():
        facts.properties.setdefault(name, []).append(schema)
    facts.patterns |= dict.fromkeys(part.get("patternProperties", {}))
    facts.required |= dict.fromkeys(part.get("required", []))
    facts.groups += [part[keyword] for keyword in ("anyOf", "oneOf") if keyword in part]
    add_closing(facts, part)


def add_closing(facts: Facts, part: dict[str, Any]) -> None:
    unevaluated = part.get("unevaluatedProperties")
    facts.closes |= "properties" in part or unevaluated is False
    facts.stays_open |= "additionalProperties" in part or unevaluated is True
    if part.get("additionalProperties") is False and "patternProperties" not in part:
        facts.closures.append(set(part.get("properties", {})))


def common_types(known: set[str] | None, types: set[str]) -> set[str]:
    if known is None:
        return types
    integers = {"integer"} if "integer" in known | types else set()
    both = known & types
    return both | integers if known & NUMBERS and types & NUMBERS else both


def common(known: list[Any], values: list[Any]) -> list[Any]:
    keys = set(map(key_of, values))
    return [value for value in known if key_of(value) in keys]


def key_of(value: Any) -> str:
    """Equal for values that JSON Schema takes as equal: 1 and 1.0, but not 1 and true."""
    if isinstance(value, dict | list):
        items = sorted(value.items()) if isinstance(value, dict) else enumerate(value)
        inner = [(name, key_of(item)) for name, item in items]
        return json.dumps([type(value).__name__, inner])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def type_of(value: Any) -> str:
    """The type of a JSON value, in JSON Schema's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "integer" if value == int(value) else "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"
