"""JSON Schemas of scalar values."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from rapport.gateway.transcoding.codec import rules

Schema = dict[str, Any]

_FLOAT_MAX = 3.4028235e38  # The largest, in as few digits as it is written with.
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
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
        return {"pattern": _integers(*rules.INT_RANGES[field.cpp_type])}
    return {}


def _integers(low: int, high: int) -> str:
    """A pattern of the integers in a range that has zero in it, as decimals."""
    negative = ["-" + _up_to(-low)] if low else []
    return f"^({'|'.join(['0', _up_to(high), *negative])})$"


def _up_to(most: int) -> str:
    """A pattern of the decimals from 1 to `most`, which has two digits or more."""
    digits = str(most)
    shorter = f"[1-9][0-9]{{0,{len(digits) - 2}}}"
    # As long as `most`, they have its first digits and then one that is less.
    less = (
        f"{digits[:place]}[{'0' if place else '1'}-{int(digit) - 1}]"
        f"[0-9]{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if int(digit) > (0 if place else 1)
    )
    return f"({'|'.join([shorter, *less, digits])})"


def or_null(schema: Schema) -> Schema:
    """The same that takes null, too."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "type" not in schema or "enum" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": kinds if "null" in kinds else [*kinds, "null"]}
