"""What the parts of a schema that always apply say together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rapport.service.structured_output.budget import Budget
from rapport.service.structured_output.keywords import SHAPES, meaning
from rapport.service.structured_output.references import References, UnresolvedError

NUMBERS = {"integer", "number"}
CHARACTERS_A_UNIT = 100


@dataclass(slots=True)
class Facts:
    """A schema together with its `allOf`s and `$ref`s; alternatives are kept apart."""

    types: set[str] | None = None
    values: dict[str, str] | None = None
    """The constants that are left: their types by their keys, see `key_of`."""
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
        self._constants: dict[int, tuple[Any, dict[str, str]]] = {}
        """By the place of a constant or a list of them, which it keeps in place."""

    def facts(self, schema: Any) -> Facts:
        if id(schema) not in self._found:
            facts = self._found[id(schema)] = Facts()
            for part in self._parts(schema):
                self._add_constants(facts, part)
                add(facts, part)
        return self._found[id(schema)]

    def _add_constants(self, facts: Facts, part: dict[str, Any]) -> None:
        if "const" in part or "enum" in part:
            values = self._constants_of(part)
            facts.values = values if facts.values is None else self._common(facts.values, values)

    def _constants_of(self, part: dict[str, Any]) -> dict[str, str]:
        """Taken once, though many schemas may refer to the part."""
        said = part["const"] if "const" in part else part["enum"]
        if id(said) not in self._constants:
            values = [said] if "const" in part else said
            keyed = {key_of(value): type_of(value) for value in values}
            self._budget.spend(sum(map(len, keyed)) // CHARACTERS_A_UNIT)
            self._constants[id(said)] = said, keyed
        return self._constants[id(said)][1]

    def _common(self, ones: dict[str, str], others: dict[str, str]) -> dict[str, str]:
        self._budget.spend_on_values(len(ones))
        return {key: kind for key, kind in ones.items() if key in others}

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


def key_of(value: Any) -> str:
    """Equal for values that JSON Schema takes as equal: 1 and 1.0, but not 1 and true."""
    return json.dumps(plain(value), sort_keys=True)


def plain(value: Any) -> Any:
    """The same with whole numbers as integers."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return list(map(plain, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
