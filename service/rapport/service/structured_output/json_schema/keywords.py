"""The keywords of JSON Schema that are enforced, and the values that they may have.

`jsonschema_rs` could check the values too, but against one draft: it refuses schemas that mix
drafts, checks definitions that nothing refers to, and has other error texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

JsonSchema = dict[str, Any]

# Keywords for people or tools. They do not constrain values.
ANNOTATIONS = frozenset({
    *("$anchor", "$comment", "$defs", "$id", "$schema", "definitions", "id"),
    *("title", "description", "default", "example", "examples", "deprecated"),
    *("readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema"),
    *("$dynamicAnchor", "$recursiveAnchor", "$vocabulary"),
    *("discriminator", "externalDocs", "xml", "enumNames", "markdownDescription"),
})  # fmt: skip
ANNOTATION_PREFIX = "x-"

STRING_FORMATS = frozenset({
    *("date-time", "time", "date", "duration", "email", "hostname"),
    *("ipv4", "ipv6", "uuid", "uri"),
})  # fmt: skip
NUMBER_TYPES = frozenset({"integer", "number"})
TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


class KeywordRule(NamedTuple):
    """The values that a keyword may have. `expected` completes "'keyword' should be ..."."""

    accepts: Callable[[Any], bool]
    expected: str


def is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_schema, value))


def _is_schema_map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_schema, value.values()))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    return is_number(value) and value >= 0 and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_type(value: Any) -> bool:
    types = value if isinstance(value, list) else [value]
    return bool(types) and all(_is_text(name) and name in TYPES for name in types)


def _is_values(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_anything(_value: Any) -> bool:
    return True


def _is_bound(value: Any) -> bool:
    return is_number(value) or isinstance(value, bool)


def _is_items(value: Any) -> bool:
    return is_schema(value) or _is_schemas(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_divisor(value: Any) -> bool:
    return is_number(value) and value > 0


KEYWORDS: dict[str, KeywordRule] = {
    "$ref": KeywordRule(_is_text, "a string"),
    "type": KeywordRule(_is_type, "a type or a list of types"),
    "enum": KeywordRule(_is_values, "a list of values"),
    "const": KeywordRule(_is_anything, "a value"),
    "allOf": KeywordRule(_is_schemas, "a list of schemas"),
    "anyOf": KeywordRule(_is_schemas, "a list of schemas"),
    "oneOf": KeywordRule(_is_schemas, "a list of schemas"),
    "properties": KeywordRule(_is_schema_map, "an object of schemas"),
    "patternProperties": KeywordRule(_is_schema_map, "an object of schemas"),
    "additionalProperties": KeywordRule(is_schema, "a schema"),
    "unevaluatedProperties": KeywordRule(is_schema, "a schema"),
    "required": KeywordRule(_is_names, "a list of strings"),
    "minProperties": KeywordRule(is_count, "a count"),
    "maxProperties": KeywordRule(is_count, "a count"),
    "items": KeywordRule(_is_items, "a schema"),
    "prefixItems": KeywordRule(_is_schemas, "a list of schemas"),
    "additionalItems": KeywordRule(is_schema, "a schema"),
    "minItems": KeywordRule(is_count, "a count"),
    "maxItems": KeywordRule(is_count, "a count"),
    "uniqueItems": KeywordRule(_is_flag, "true or false"),
    "minLength": KeywordRule(is_count, "a count"),
    "maxLength": KeywordRule(is_count, "a count"),
    "pattern": KeywordRule(_is_text, "a string"),
    "format": KeywordRule(_is_text, "a string"),
    "minimum": KeywordRule(is_number, "a number"),
    "maximum": KeywordRule(is_number, "a number"),
    "exclusiveMinimum": KeywordRule(_is_bound, "a number"),
    "exclusiveMaximum": KeywordRule(_is_bound, "a number"),
    "multipleOf": KeywordRule(_is_divisor, "a number above 0"),
}


def constraining_keywords(schema: JsonSchema) -> JsonSchema:
    """The keywords of a schema that constrain values: all but annotations."""
    return {keyword: value for keyword, value in schema.items() if not _is_annotation(keyword)}


def valid_keywords(schema: JsonSchema) -> JsonSchema:
    """The known keywords of a schema that have a valid value."""
    return {
        keyword: value
        for keyword, value in schema.items()
        if keyword in KEYWORDS and KEYWORDS[keyword].accepts(value)
    }


def _is_annotation(keyword: str) -> bool:
    return keyword in ANNOTATIONS or keyword.startswith(ANNOTATION_PREFIX)
