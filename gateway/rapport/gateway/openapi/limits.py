"""JSON Schema keywords for the limits that a proto sets on its fields."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor

from rapport.gateway.openapi.scalars import Schema
from rapport.gateway.transcoding.codec import rules

# Keyword of JSON Schema to field of FieldLimits.
_VALUE = {
    "minimum": "minimum",
    "maximum": "maximum",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
}
_LIST = {"minItems": "min_items", "maxItems": "max_items"}
_MAP = {"minProperties": "min_items", "maxProperties": "max_items"}
_MAP_KEY = {"maxLength": "max_length"}


def value_limits(field: FieldDescriptor) -> Schema:
    """The keywords for one value: of the field itself, of a list's item or of a map's value."""
    return _keywords(field, _VALUE)


def list_limits(field: FieldDescriptor) -> Schema:
    """The keywords for how many items a list may have."""
    return _keywords(field, _LIST)


def map_limits(field: FieldDescriptor) -> Schema:
    """The keywords for how many entries a map may have."""
    return _keywords(field, _MAP)


def key_limits(field: FieldDescriptor) -> Schema:
    """The keywords for a key of a map."""
    return _keywords(field, _MAP_KEY)


def _keywords(field: FieldDescriptor, names: dict[str, str]) -> Schema:
    given = {limit.name: value for limit, value in rules.field_limits(field).ListFields()}
    return {key: _integral(given[name]) for key, name in names.items() if name in given}


def _integral(value: float | str) -> float | str:
    """The value itself, but a whole number as an int, which JSON shows without `.0`."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
