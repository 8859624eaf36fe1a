"""Says with other keywords what `propertyNames` says."""

from __future__ import annotations

from typing import Any

from rapport.service.structured_output.json_schema.keywords import (
    JsonSchema,
    constraining_keywords,
    is_count,
)


def without_property_names(schema: JsonSchema) -> JsonSchema:
    """An equal schema without `propertyNames`, if there is one."""
    names = schema.get("propertyNames")
    if names is True or (isinstance(names, dict) and not _constraints(names)):
        return _without(schema)
    if not isinstance(names, dict) or "patternProperties" in schema:
        return schema
    constraints = _constraints(names)
    if constraints.keys() <= {"enum", "const"} and (allowed := _allowed(constraints)) is not None:
        return _with_keys(schema, allowed)
    pattern = _pattern(constraints)
    if pattern is None or "properties" in schema:
        return schema
    values = schema.get("additionalProperties", True)
    return _without(schema) | {
        "patternProperties": {pattern: values},
        "additionalProperties": False,
    }


def _constraints(names: JsonSchema) -> JsonSchema:
    """What a schema of keys says beyond that they are strings."""
    found = constraining_keywords(names)
    if found.get("type") == "string":
        found.pop("type")
    return found


def _without(schema: JsonSchema) -> JsonSchema:
    return {keyword: value for keyword, value in schema.items() if keyword != "propertyNames"}


def _allowed(constraints: JsonSchema) -> dict[str, None] | None:
    """The keys of a schema that lists them."""
    keys: Any = [constraints["const"]] if "const" in constraints else constraints["enum"]
    return dict.fromkeys(filter(_is_text, keys)) if isinstance(keys, list) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _with_keys(schema: JsonSchema, allowed: dict[str, None]) -> JsonSchema:
    """The same schema with no other keys than those that are allowed."""
    named = schema.get("properties", {})
    if not isinstance(named, dict):
        return schema
    others = schema.get("additionalProperties", not named)
    properties = {name: value for name, value in named.items() if name in allowed}
    properties |= {name: others for name in allowed if name not in named and others is not False}
    return _without(schema) | {"properties": properties, "additionalProperties": False}


def _pattern(constraints: JsonSchema) -> str | None:
    """The pattern of the keys that a schema allows, if that is all it says."""
    if constraints.keys() == {"pattern"}:
        pattern = constraints["pattern"]
        return pattern if isinstance(pattern, str) else None
    low, high = constraints.get("minLength", 0), constraints.get("maxLength", "")
    if constraints.keys() <= {"minLength", "maxLength"} and is_count(low):
        return rf"^[\s\S]{{{int(low)},{int(high) if is_count(high) else ''}}}$"
    return None
