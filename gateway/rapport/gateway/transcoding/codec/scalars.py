"""Converts JSON values to the values of scalar fields. Only 1.0 to 1 is coerced."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor

from rapport.gateway.transcoding.codec import rules

Convert = Callable[[Any], Any]

MAX_FLOAT32 = 3.4028234663852886e38
MIN_INT64 = -(2.0**63)


class ScalarError(Exception):
    """The field cannot hold the value; the text says what it should be."""


def converter(field: FieldDescriptor) -> Convert:
    """The function that converts a value of the field; it raises ScalarError."""
    if field.cpp_type in rules.INT_RANGES:
        return _integer(*rules.INT_RANGES[field.cpp_type])
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum(rules.spellings(field))
    raw = {rules.RAW_JSON: _raw_json, rules.RAW_TEXT: _raw_text}.get(rules.field_rule(field).raw)
    return raw or _CONVERTERS[field.type]


def key_converter(field: FieldDescriptor) -> Convert:
    """The function that converts a key of a map; in JSON, keys are strings."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _string
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _bool_key
    return _int_key(_integer(*rules.INT_RANGES[field.cpp_type]))


def one_of(names: Iterable[str]) -> str:
    """`Input should be 'a', 'b' or 'c'`."""
    *most, last = (f"'{name}'" for name in names)
    return f"Input should be {', '.join(most)} or {last}" if most else f"Input should be {last}"


def _string(value: Any) -> str:
    if type(value) is not str:
        raise ScalarError("Input should be a valid string")
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ScalarError("Input should be a valid boolean")
    return value


def _double(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise ScalarError("Input should be a valid number")
    if not math.isfinite(value):
        raise ScalarError("Input should be a finite number")
    return value


def _float(value: Any) -> float:
    number = _double(value)
    try:
        struct.pack("<f", number)  # accepts what rounds to the largest float, too
    except OverflowError as error:
        bound = "less than or equal to " if number > 0 else "greater than or equal to -"
        raise ScalarError(f"Input should be {bound}{MAX_FLOAT32}") from error
    return number


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_string(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ScalarError("Input should be a valid base64 string") from error


def _raw_json(value: Any) -> str:
    return value if type(value) is str else _dump(value)


def _raw_text(value: Any) -> str:
    return _dump(value) if isinstance(value, (list, dict)) else _string(value)


def _dump(value: Any) -> str:
    if value is None:
        raise ScalarError("Input should be a valid JSON value")
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise ScalarError("Input should not be nested so deeply") from error


def _integer(low: int, high: int) -> Convert:
    def integer(value: Any) -> int:
        if type(value) is float and value.is_integer():
            # orjson parses an integer below -2**63 as a float, which may be rounded up to that.
            value = int(value) - (value == MIN_INT64)
        if type(value) is not int:
            raise ScalarError("Input should be a valid integer")
        if value > high:
            raise ScalarError(f"Input should be less than or equal to {high}")
        if value < low:
            raise ScalarError(f"Input should be greater than or equal to {low}")
        return value

    return integer


def _enum(numbers: dict[str, int]) -> Convert:
    def enum(value: Any) -> int:
        number = numbers.get(value) if type(value) is str else None
        if number is None:
            raise ScalarError(one_of(numbers))
        return number

    return enum


def _bool_key(key: str) -> bool:
    if key not in ("true", "false"):
        raise ScalarError("Input should be a valid boolean")
    return key == "true"


def _int_key(integer: Convert) -> Convert:
    def int_key(key: str) -> Any:
        try:
            number = int(key)
        except ValueError:
            number = None
        # Only one spelling for each number, as two members must not mean the same entry.
        if str(number) != key:
            raise ScalarError("Input should be a valid integer")
        return integer(number)

    return int_key


_CONVERTERS: dict[int, Convert] = {
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_FLOAT: _float,
}
