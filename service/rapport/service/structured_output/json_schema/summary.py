"""Summarizes what a schema requires together with its `allOf` and `$ref` parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rapport.service.structured_output.json_schema.budget import WorkBudget
from rapport.service.structured_output.json_schema.keywords import NUMBER_TYPES, valid_keywords
from rapport.service.structured_output.json_schema.references import (
    References,
    UnresolvedReferenceError,
)
from rapport.service.structured_output.json_schema.simplification import Simplifier

CHARACTERS_PER_UNIT = 100


@dataclass(slots=True)
class SchemaSummary:
    """A schema merged with all parts that always apply. Alternatives are kept apart."""

    types: set[str] | None = None
    values: dict[str, str] | None = None
    """The constants that are possible: their types by their keys, see `_value_key`."""
    properties: dict[str, list[Any]] = field(default_factory=dict)
    patterns: dict[str, None] = field(default_factory=dict)
    required: dict[str, None] = field(default_factory=dict)
    closures: list[set[str]] = field(default_factory=list)
    """For each part that forbids other keys and has no patterns: the keys that it allows."""
    closes: bool = False
    """Whether keys that are not named are to be kept out, though no keyword says so."""
    stays_open: bool = False
    """Whether a keyword says something about the keys that are not named."""
    groups: list[list[Any]] = field(default_factory=list)
    """Groups of alternatives. At least one alternative of each group applies too."""

    @property
    def names(self) -> set[str]:
        """The keys that the schema names."""
        return {*self.properties, *self.required}

    @property
    def possible_types(self) -> set[str] | None:
        """The types of the constants, or else the types that the schema names."""
        return self.types if self.values is None else set(self.values.values())

    def excludes(self, name: str) -> bool:
        """Whether the schema itself forbids a key."""
        return any(name not in closure for closure in self.closures)

    def add(self, part: dict[str, Any]) -> None:
        """Merges the keywords of one part, except for constants."""
        if "type" in part:
            types = part["type"] if isinstance(part["type"], list) else [part["type"]]
            self.types = _common_types(self.types, set(types))
        for name, schema in part.get("properties", {}).items():
            self.properties.setdefault(name, []).append(schema)
        self.patterns |= dict.fromkeys(part.get("patternProperties", {}))
        self.required |= dict.fromkeys(part.get("required", []))
        self.groups += [part[keyword] for keyword in ("anyOf", "oneOf") if keyword in part]
        self._add_closing(part)

    def _add_closing(self, part: dict[str, Any]) -> None:
        unevaluated = part.get("unevaluatedProperties")
        self.closes |= "properties" in part or unevaluated is False
        self.stays_open |= "additionalProperties" in part or unevaluated is True
        if part.get("additionalProperties") is False and "patternProperties" not in part:
            self.closures.append(set(part.get("properties", {})))


class SchemaSummarizer:
    """Summarizes the schemas of one document, each of them once."""

    def __init__(self, references: References, simplifier: Simplifier, budget: WorkBudget) -> None:
        self._references = references
        self._simplifier = simplifier
        self._budget = budget
        self._summaries: dict[int, SchemaSummary] = {}
        self._constants: dict[int, tuple[Any, dict[str, str]]] = {}
        """By the `id` of a constant or of a list of constants, which is kept alive here."""

    def summarize(self, schema: Any) -> SchemaSummary:
        """The summary of a schema.

        Raises:
            SchemaTooLargeError: that takes too much work.
        """
        if id(schema) not in self._summaries:
            summary = self._summaries[id(schema)] = SchemaSummary()
            for part in self._parts(schema):
                self._add_constants(summary, part)
                summary.add(part)
        return self._summaries[id(schema)]

    def _add_constants(self, summary: SchemaSummary, part: dict[str, Any]) -> None:
        if "const" in part or "enum" in part:
            values = self._constants_of(part)
            known = summary.values
            summary.values = values if known is None else self._common(known, values)

    def _constants_of(self, part: dict[str, Any]) -> dict[str, str]:
        """The constants of a part. Computed once, since many schemas may refer to the part."""
        constants = part["const"] if "const" in part else part["enum"]
        if id(constants) not in self._constants:
            values = [constants] if "const" in part else constants
            keyed = {_value_key(value): _type_name(value) for value in values}
            self._budget.spend(sum(map(len, keyed)) // CHARACTERS_PER_UNIT)
            self._constants[id(constants)] = constants, keyed
        return self._constants[id(constants)][1]

    def _common(self, ones: dict[str, str], others: dict[str, str]) -> dict[str, str]:
        self._budget.spend_on_values(len(ones))
        return {key: type_ for key, type_ in ones.items() if key in others}

    def _parts(self, schema: Any) -> Iterator[dict[str, Any]]:
        seen: set[int] = set()
        waiting = [schema]
        while waiting:
            part = waiting.pop(0)
            if not isinstance(part, dict) or id(part) in seen:
                continue
            seen.add(id(part))
            self._budget.spend()
            simplified = self._simplifier.simplify(part)
            if isinstance(simplified, bool):
                continue
            keywords = valid_keywords(simplified)
            yield keywords
            waiting += keywords.get("allOf", [])
            if "$ref" in keywords:
                waiting += self._target(keywords["$ref"])

    def _target(self, reference: str) -> list[Any]:
        try:
            return [self._references.resolve(reference)]
        except UnresolvedReferenceError:
            return []


def _common_types(known: set[str] | None, types: set[str]) -> set[str]:
    if known is None:
        return types
    integers = {"integer"} if "integer" in known | types else set()
    both = known & types
    return both | integers if known & NUMBER_TYPES and types & NUMBER_TYPES else both


def _value_key(value: Any) -> str:
    """A text that is equal for values that JSON Schema calls equal: 1 and 1.0, not 1 and true."""
    return json.dumps(_normalized(value), sort_keys=True)


def _normalized(value: Any) -> Any:
    """The same value with whole numbers as integers."""
    if isinstance(value, dict):
        return {name: _normalized(item) for name, item in value.items()}
    if isinstance(value, list):
        return list(map(_normalized, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _type_name(value: Any) -> str:
    """JSON Schema's name for the type of a JSON value."""
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
