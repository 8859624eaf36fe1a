"""Whether a schema has a value that ends: recursion without a way out would never stop."""

from __future__ import annotations

from typing import Any


class Finiteness:
    """Answers for one translated document."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._finite: set[str] = set()
        while found := {name for name in self._unknown() if self.ends(definitions[name])}:
            self._finite |= found

    def ends(self, schema: Any) -> bool:
        """Whether some value of the schema ends, as far as is known."""
        if isinstance(schema, bool):
            return schema
        return (
            self._reference_ends(schema)
            and all(map(self.ends, schema.get("allOf", ())))
            and any(map(self.ends, schema.get("anyOf", (True,))))
            and (self._needs_no("object", schema) or self._object_ends(schema))
            and (self._needs_no("array", schema) or self._array_ends(schema))
        )

    def _unknown(self) -> set[str]:
        return self._definitions.keys() - self._finite

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
