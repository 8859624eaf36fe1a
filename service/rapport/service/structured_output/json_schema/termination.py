"""Finds schemas that only infinite values satisfy.

Under such a schema, for example one that refers to itself in a required property, the model
could never complete its answer.
"""

from __future__ import annotations

from typing import Any

from rapport.service.structured_output.json_schema.budget import WorkBudget


class TerminationChecker:
    """Checks the schemas of one translated document."""

    def __init__(self, definitions: dict[str, Any], budget: WorkBudget) -> None:
        """Finds the definitions that have a finite value.

        Raises:
            SchemaTooLargeError: that takes too much work.
        """
        self._definitions = definitions
        self._budget = budget
        self._finite: set[str] = set()
        # Mostly, earlier definitions refer to later ones.
        unknown = list(reversed(definitions))
        while left := [name for name in unknown if not self._settle(name)]:
            if len(left) == len(unknown):
                break
            unknown = left

    def terminates(self, schema: Any) -> bool:
        """Whether a finite value may satisfy the schema.

        Raises:
            SchemaTooLargeError: finding out takes too much work.
        """
        self._budget.spend()
        if isinstance(schema, bool):
            return schema
        return (
            self._reference_terminates(schema)
            and all(map(self.terminates, schema.get("allOf", ())))
            and any(map(self.terminates, schema.get("anyOf", (True,))))
            and (not _is_only("object", schema) or self._object_terminates(schema))
            and (not _is_only("array", schema) or self._array_terminates(schema))
        )

    def _settle(self, name: str) -> bool:
        if self.terminates(self._definitions[name]):
            self._finite.add(name)
        return name in self._finite

    def _reference_terminates(self, schema: dict[str, Any]) -> bool:
        reference = schema.get("$ref")
        return reference is None or reference.rpartition("/")[2] in self._finite

    def _object_terminates(self, schema: dict[str, Any]) -> bool:
        named, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        by_pattern = "patternProperties" in schema
        return all(
            self.terminates(named.get(name, by_pattern or rest))
            for name in schema.get("required", ())
        )

    def _array_terminates(self, schema: dict[str, Any]) -> bool:
        minimum = schema.get("minItems", 0)
        first = schema.get("prefixItems", [])
        needed = first[:minimum] + ([schema.get("items", True)] if minimum > len(first) else [])
        return all(map(self.terminates, needed))


def _is_only(type_: str, schema: dict[str, Any]) -> bool:
    """Whether the schema allows values of this type only."""
    types = schema.get("type", ())
    return [type_] == (types if isinstance(types, list) else [types])
