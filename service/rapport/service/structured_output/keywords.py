"""The keywords of JSON Schema: which mean nothing here, which are enforced, and their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# They say something to people or tools and nothing about a value.
ANNOTATIONS = frozenset({
    *("$anchor", "$comment", "$defs", "$id", "$schema", "definitions", "id"),
    *("title", "description", "default", "example", "examples", "deprecated"),
    *("readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema"),
    *("discriminator", "externalDocs", "xml", "enumNames", "markdownDescription"),
})  # fmt: skip
ANNOTATION_PREFIX = "x-"

FORMATS = frozenset({
    *("date-time", "time", "date", "duration", "email", "hostname"),
    *("ipv4", "ipv6", "uuid", "uri"),
})  # fmt: skip
TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})

# What can be told apart exactly is within a double's integers.
EXACT = 2**53
# The engine writes ranges of numbers digit by digit, in 64 bits.
WIDEST = 2**63 - 1024


def is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def is_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_schema, value))


def is_schema_map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_schema, value.values()))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    return is_number(value) and value >= 0 and value == int(value)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def is_type(value: Any) -> bool:
    types = value if isinstance(value, list) else [value]
    return bool(types) and all(is_text(name) and name in TYPES for name in types)


def is_values(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def is_anything(_value: Any) -> bool:
    return True


def is_bound(value: Any) -> bool:
    return is_number(value) or isinstance(value, bool)


def is_items(value: Any) -> bool:
    return is_schema(value) or is_schemas(value)


# Keyword, whether a value of it is well formed, and what it should be.
SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "$ref": (is_text, "a string"),
    "type": (is_type, "a type or a list of types"),
    "enum": (is_values, "a list of values"),
    "const": (is_anything, "a value"),
    "allOf": (is_schemas, "a list of schemas"),
    "anyOf": (is_schemas, "a list of schemas"),
    "oneOf": (is_schemas, "a list of schemas"),
    "properties": (is_schema_map, "an object of schemas"),
    "patternProperties": (is_schema_map, "an object of schemas"),
    "additionalProperties": (is_schema, "a schema"),
    "unevaluatedProperties": (is_schema, "a schema"),
    "required": (is_names, "a list of strings"),
    "minProperties": (is_count, "a count"),
    "maxProperties": (is_count, "a count"),
    "items": (is_items, "a schema"),
    "prefixItems": (is_schemas, "a list of schemas"),
    "additionalItems": (is_schema, "a schema"),
    "minItems": (is_count, "a count"),
    "maxItems": (is_count, "a count"),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    "minLength": (is_count, "a count"),
    "maxLength": (is_count, "a count"),
    "pattern": (is_text, "a string"),
    "format": (is_text, "a string"),
    "minimum": (is_number, "a number"),
    "maximum": (is_number, "a number"),
    "exclusiveMinimum": (is_bound, "a number"),
    "exclusiveMaximum": (is_bound, "a number"),
    "multipleOf": (lambda value: is_number(value) and value > 0, "a number above 0"),
}


def is_annotation(keyword: str) -> bool:
    return keyword in ANNOTATIONS or keyword.startswith(ANNOTATION_PREFIX)


def meaning(schema: dict[str, Any]) -> dict[str, Any]:
    """What a schema says about values."""
    return {keyword: value for keyword, value in schema.items() if not is_annotation(keyword)}
