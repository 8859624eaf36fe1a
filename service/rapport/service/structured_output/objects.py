"""Translated schemas: objects as far as the engine can count their keys, and joining."""

from __future__ import annotations

from typing import Any

from rapport.service.structured_output.facts import Facts
from rapport.service.structured_output.numbers import Unsupported

# "One of these keys at least" is a way through the whole object for each of them.
MOST_WAYS = 50


def narrowed(schema: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Takes a schema with `properties` and no word on types for one of objects, as it is meant."""
    if facts.types is None and facts.values is None and not facts.groups:
        return {"type": "object", **schema}
    return schema


def check_key_counts(schema: dict[str, Any]) -> None:
    """Takes out limits on the number of keys that hold anyway.

    Raises:
        Unsupported: one is left that the engine cannot enforce.
    """
    named, required = set(schema.get("properties", {})), set(schema.get("required", []))
    sealed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    if schema.get("minProperties", 0) <= len(required):
        schema.pop("minProperties", None)
    if sealed and schema.get("maxProperties", 0) >= len(named | required):
        schema.pop("maxProperties", None)
    missing = schema.get("minProperties", len(required)) - len(required)
    # Keys that are not named may repeat, so more than one of them does not mean two keys.
    if missing > 1 and not sealed:
        raise Unsupported("'minProperties' cannot be enforced above 'required' plus one")
    spare = schema.get("maxProperties", len(required) + 1) - len(required)
    limited = {"minProperties", "maxProperties"} & schema.keys()
    ways = sealed and missing <= 1 and spare == 1 and len(named) <= MOST_WAYS
    if limited and named - required and not ways:
        keywords = " and ".join(f"'{keyword}'" for keyword in sorted(limited))
        raise Unsupported(f"{keywords} cannot be enforced beside optional properties")


def join(translated: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds keywords; where one is there already, both apply."""
    for keyword, value in more.items():
        if keyword == "allOf":
            translated.setdefault("allOf", []).extend(value)
        elif keyword in translated:
            translated.setdefault("allOf", []).append({keyword: value})
        else:
            translated[keyword] = value
