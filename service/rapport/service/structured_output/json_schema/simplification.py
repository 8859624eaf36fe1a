"""Drops what says nothing in a schema, and rewrites what other keywords can say.

Only the keywords of one schema are looked at, not those of the schemas inside of it.
"""

from __future__ import annotations

from typing import Any

from rapport.service.structured_output.json_schema.key_names import without_property_names
from rapport.service.structured_output.json_schema.keywords import (
    NUMBER_TYPES,
    TYPES,
    JsonSchema,
    is_count,
    is_number,
    is_schema,
)

# Keywords that only say something about values of one type.
TYPE_OF_KEYWORD = {
    **dict.fromkeys(("format", "pattern", "minLength", "maxLength"), "string"),
    **dict.fromkeys(
        ("uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems"), "array"
    ),
    **dict.fromkeys(
        ("propertyNames", "dependentRequired", "dependentSchemas", "dependencies"), "object"
    ),
}
INTEGER_FORMATS = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
APPLICATORS = {"$ref", "allOf", "anyOf", "oneOf", "$dynamicRef"}


class Simplifier:
    """Simplifies the schemas of one document, each of them once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[JsonSchema, JsonSchema | bool]] = {}
        """By the `id` of a schema, which is kept alive here."""

    def simplify(self, schema: JsonSchema) -> JsonSchema | bool:
        """An equal schema of fewer keywords, or false if no value satisfies it."""
        if id(schema) not in self._known:
            self._known[id(schema)] = schema, simplified(schema)
        return self._known[id(schema)][1]


def simplified(schema: JsonSchema) -> JsonSchema | bool:
    """An equal schema of fewer keywords, or false if no value satisfies it."""
    schema = {k: v for k, v in schema.items() if v is not None or k == "const"}
    if "not" in schema and says_nothing(schema["not"]):
        return False
    schema = _with_integer_format(schema)
    schema = {k: v for k, v in schema.items() if not _is_void(k, v, schema)}
    schema = without_property_names(schema)
    schema = _with_item_keywords(schema)
    return _nullable(schema) if schema.get("nullable") is True else schema


def says_nothing(schema: Any) -> bool:
    """Whether every value satisfies a schema."""
    return schema is True or schema == {}


def _is_void(keyword: str, value: Any, schema: JsonSchema) -> bool:
    """Whether a keyword says nothing at its place."""
    if keyword in TYPE_OF_KEYWORD and not _may_be(TYPE_OF_KEYWORD[keyword], schema):
        return True
    match keyword:
        case "not" | "nullable":
            return value is False
        case "if" | "then" | "else":
            return not _is_conditional(schema)
        case "dependentRequired" | "dependentSchemas" | "dependencies":
            return isinstance(value, dict) and all(map(_demands_nothing, value.values()))
    return _is_void_for_items(keyword, value, schema)


def _is_void_for_items(keyword: str, value: Any, schema: JsonSchema) -> bool:
    match keyword:
        case "unevaluatedItems":
            return says_nothing(value) or is_schema(schema.get("items"))
        case "uniqueItems":
            most = schema.get("maxItems")
            return is_number(most) and int(most or 0) <= 1
        case "contains":
            return schema.get("minContains") == 0 and "maxContains" not in schema
        case "minContains" | "maxContains":
            return "contains" not in schema or (keyword, value) == ("minContains", 0)
    return False


def _demands_nothing(dependent: Any) -> bool:
    """Whether a key demands no other keys and nothing else of the object."""
    return says_nothing(dependent) or dependent == []


def _is_conditional(schema: JsonSchema) -> bool:
    """Whether `if` has anything to decide."""
    outcomes = schema.get("then", True), schema.get("else", True)
    return "if" in schema and not all(map(says_nothing, outcomes))


def _may_be(type_: str, schema: JsonSchema) -> bool:
    """Whether a schema may allow values of a type. If its own type is wrong, it may."""
    types = _types(schema)
    return not types or type_ in types or not types <= TYPES


def _types(schema: JsonSchema) -> set[str]:
    types = schema.get("type", [])
    names = types if isinstance(types, list) else [types]
    return {name for name in names if isinstance(name, str)}


def _with_integer_format(schema: JsonSchema) -> JsonSchema:
    """Bounds in place of a format such as `int32`."""
    limits = INTEGER_FORMATS.get(str(schema.get("format")))
    if limits is None or not _types(schema) & NUMBER_TYPES:
        return schema
    low, high = schema.get("minimum", limits[0]), schema.get("maximum", limits[1])
    bounded = _without(schema, "format")
    bounded["minimum"] = max(low, limits[0]) if is_number(low) else low
    bounded["maximum"] = min(high, limits[1]) if is_number(high) else high
    return bounded


def _with_item_keywords(schema: JsonSchema) -> JsonSchema:
    """`minItems` and `items` in place of what says the same."""
    counts = schema.get("minContains", 1), schema.get("minItems", 0)
    if (
        says_nothing(schema.get("contains"))
        and "maxContains" not in schema
        and all(map(is_count, counts))
    ):
        schema = _without(schema, "contains", "minContains") | {"minItems": max(counts)}
    if schema.get("unevaluatedItems") is False and not APPLICATORS & schema.keys():
        schema = _without(schema, "unevaluatedItems") | {"items": False}
    return schema


def _without(schema: JsonSchema, *keywords: str) -> JsonSchema:
    return {keyword: value for keyword, value in schema.items() if keyword not in keywords}


def _nullable(schema: JsonSchema) -> JsonSchema:
    """The same schema that also allows null, as OpenAPI 3.0 says it."""
    schema = _without(schema, "nullable")
    if not schema:
        return schema
    if "type" in schema and not schema.keys() & (APPLICATORS | {"enum", "const", "not", "if"}):
        return {**schema, "type": [*sorted(_types(schema) - {"null"}), "null"]}
    return {"anyOf": [schema, {"type": "null"}]}
