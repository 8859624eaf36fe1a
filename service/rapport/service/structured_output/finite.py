"""Whether a schema has a value that ends: recursion without a way out would never stop."""

from __future__ import annotations

from typing import Any

from rapport.service.structured_output.budget import Budget


class Finiteness:
    """Answers for one translated document."""

    def __init__(self, definitions: dict[str, Any], budget: Budget) -> None:
        """Raises TooLarge where that takes too much."""
        self._definitions = definitions
        self._budget = budget
        self._finite: set[str] = set()
        # The last are mostly those that the others refer to.
        unknown = list(reversed(definitions))
        while left := [name for name in unknown if not self._settle(name)]:
            if len(left) == len(unknown):
                break
            unknown = left

    def ends(self, schema: Any) -> bool:
        """Whether some value of the schema ends, as far as is known.

        Raises:
            TooLarge: finding out takes too much.
        """
        self._budget.spend()
        if isinstance(schema, bool):
            return schema
        return (
            self._reference_ends(schema)
            and all(map(self.ends, schema.get("allOf", ())))
            and any(map(self.ends, schema.get("anyOf", (True,))))
            and (self._needs_no("object", schema) or self._object_ends(schema))
            and (self._needs_no("array", schema) or self._array_ends(schema))
        )

    def _settle(self, name: str) -> bool:
        if self.ends(self._definitions[name]):
            self._finite.add(name)
        return name in self._finite

    def _reference_ends(self, schema: dict[str, Any]) -> bool:
        reference = schema.get("$ref")
        return reference is None or reference.rpartition("/")[2] in self._finite

    @staticmethod
    def _needs_no(kind: str, schema: dict[str, Any]) -> bool:
        types = schema.get("type", ())
        return [kind] != (types if isinstance(types, list) else [types])

    def _object_ends(self, schema: dict[str, Any]) -> bool:
        named, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        by_pattern = "patternProperties" in schema
        return all(
            self.ends(named.get(name, by_pattern or rest)) for name in schema.get("required", ())
        )

    def _array_ends(self, schema: dict[str, Any]) -> bool:
        least = schema.get("minItems", 0)
        first = schema.get("prefixItems", [])
        needed = first[:least] + ([schema.get("items", True)] if least > len(first) else [])
        return all(map(self.ends, needed))
