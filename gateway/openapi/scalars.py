"""JSON Schemas of scalar values."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gateway.codec import rules

Schema = dict[str, Any]

_FLOAT_MAX = 3.4028235e38  # The largest, in as few digits as it is written with.
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_UNSIGNED = "^(0|[1-9][0-9]*)$"
_SIGNED = "^(0|-?[1-9][0-9]*)$"
_ANY = ["object", "array", "string", "number", "boolean"]

_FORMATS = {
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
    FieldDescriptor.CPPTYPE_UINT64: "uint64",
}
_SCHEMAS: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64", "pattern": _BASE64},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {
        "type": "number",
        "format": "float",
        "minimum": -_FLOAT_MAX,
        "maximum": _FLOAT_MAX,
    },
}


def scalar(field: FieldDescriptor, *, read: bool) -> Schema:
    """The schema of a value of the field, which holds no messages and no enum."""
    raw = rules.field_rule(field).raw
    if raw == rules.RAW_JSON:
        return {"type": [*_ANY] if read else [*_ANY, "null"]}
    if raw == rules.RAW_TEXT and read:
        return {"type": ["string", "object", "array"]}
    if field.cpp_type in rules.INT_RANGES:
        low, high = rules.INT_RANGES[field.cpp_type]
        shape = {"type": "integer", "format": _FORMATS[field.cpp_type]}
        return {**shape, "minimum": low, "maximum": high}
    return {**_SCHEMAS[field.type]}


def key(field: FieldDescriptor) -> Schema:
    """The schema of a map's keys; empty if any string will do."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"enum": ["true", "false"]}
    if field.cpp_type in rules.INT_RANGES:
        return {"pattern": _SIGNED if rules.INT_RANGES[field.cpp_type][0] else _UNSIGNED}
    return {}


def or_null(schema: Schema) -> Schema:
    """The same that takes null, too."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "type" not in schema or "enum" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": kinds if "null" in kinds else [*kinds, "null"]}
