from __future__ import annotations

from typing import Any

import pytest

from rapport.service.structured_output.json_schema.simplification import simplified

STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"enum": None, "items": None, "const": None}, {"const": None}),
        ({"not": False, "type": "null"}, {"type": "null"}),
        ({"not": {}, "type": "null"}, False),
        ({"if": {"type": "null"}}, {}),
        ({"if": {}, "then": {}, "else": True}, {}),
        ({"then": {"type": "null"}}, {}),
        ({"dependentRequired": {}, "dependentSchemas": {"a": {}}, "dependencies": {"a": []}}, {}),
        ({"unevaluatedItems": True}, {}),
        ({"items": STRING, "unevaluatedItems": False}, {"items": STRING}),
        ({"prefixItems": [{}], "unevaluatedItems": False}, {"prefixItems": [{}], "items": False}),
        ({"uniqueItems": True, "maxItems": 1}, {"maxItems": 1}),
        ({"contains": {}}, {"minItems": 1}),
        ({"contains": True, "minContains": 3, "minItems": 2}, {"minItems": 3}),
        ({"contains": STRING, "minContains": 0}, {}),
        ({"maxContains": 3}, {}),
        ({**STRING, "uniqueItems": True, "propertyNames": {"enum": [1]}}, STRING),
        ({"type": "number", "format": "double"}, {"type": "number"}),
        (
            {"type": "integer", "format": "int32"},
            {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
        ),
        (
            {"type": "integer", "format": "uint8", "minimum": 3, "maximum": 900},
            {"type": "integer", "minimum": 3, "maximum": 255},
        ),
        ({**STRING, "format": "email"}, {**STRING, "format": "email"}),
        ({**STRING, "nullable": False}, STRING),
        ({**STRING, "nullable": True}, {"type": ["string", "null"]}),
        ({"$ref": "#/x", "nullable": True}, {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]}),
        ({"propertyNames": True}, {}),
        ({"propertyNames": {**STRING, "title": "Name"}, "type": "object"}, {"type": "object"}),
        (
            {"propertyNames": {**STRING, "enum": ["a", "b"]}, "additionalProperties": STRING},
            {"properties": {"a": STRING, "b": STRING}, "additionalProperties": False},
        ),
        (
            {"propertyNames": {"enum": ["a"]}, "properties": {"a": STRING, "b": STRING}},
            {"properties": {"a": STRING}, "additionalProperties": False},
        ),
        (
            {"propertyNames": {"pattern": "^x"}, "additionalProperties": STRING},
            {"patternProperties": {"^x": STRING}, "additionalProperties": False},
        ),
        (
            {"propertyNames": {**STRING, "minLength": 1}},
            {"patternProperties": {r"^[\s\S]{1,}$": True}, "additionalProperties": False},
        ),
    ],
)
def test_what_is_left(schema: dict[str, Any], wanted: Any) -> None:
    """What says nothing at its place is dropped, and what other keywords can say is rewritten."""
    assert simplified(schema) == wanted


@pytest.mark.parametrize(
    "schema",
    [
        {"format": "int8", "minimum": "1", "type": {}},
        {"type": {}, "format": "int32", "nullable": "yes"},
        {"contains": {}, "minItems": "2"},
        {"propertyNames": {"enum": 1}},
        {"propertyNames": {"pattern": 1}, "patternProperties": 1},
        {"propertyNames": {"enum": ["a"]}, "properties": 1},
        {"dependentRequired": 1, "not": 1, "if": 1, "then": 2},
    ],
)
def test_what_is_wrong_stays(schema: dict[str, Any]) -> None:
    """Keywords with wrong values are left to those that say what is wrong with them."""
    assert simplified(schema) == schema
