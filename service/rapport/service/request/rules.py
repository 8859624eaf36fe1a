"""Single rules for single values, with pydantic's words for what breaks them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from rapport.rest.v1 import rest_pb2
from rapport.service.errors import FieldViolation

Violations = Iterator[FieldViolation]


def has(message: Message, field: str) -> bool:
    """`HasField` for a name that only the run knows."""
    return message.HasField(field)


def required(field: str, *, given: bool) -> Violations:
    if not given:
        yield FieldViolation(field, "Field required")


def within(field: str, value: float, low: float | None, high: float | None) -> Violations:
    if not math.isfinite(value):
        yield FieldViolation(field, "Input should be a finite number")
    elif low is not None and value < low:
        yield FieldViolation(field, f"Input should be greater than or equal to {low}")
    elif high is not None and value > high:
        yield FieldViolation(field, f"Input should be less than or equal to {high}")


def length(field: str, text: str, low: int, high: int) -> Violations:
    if len(text) < low:
        yield FieldViolation(field, f"String should have at least {_count(low, 'character')}")
    elif len(text) > high:
        yield FieldViolation(field, f"String should have at most {_count(high, 'character')}")


def size(field: str, items: int, low: int, high: int | None = None) -> Violations:
    if items < low:
        expected = f"at least {_count(low, 'item')}"
        yield FieldViolation(field, f"List should have {expected} after validation, not {items}")
    elif high is not None and items > high:
        expected = f"at most {_count(high, 'item')}"
        yield FieldViolation(field, f"List should have {expected} after validation, not {items}")


def matches(field: str, text: str, pattern: re.Pattern[str]) -> Violations:
    if not pattern.fullmatch(text):
        yield FieldViolation(field, f"String should match pattern '{pattern.pattern}'")


def known(field: str, value: int, enum: EnumDescriptor) -> Violations:
    """An enum of proto3 may hold any number; zero is "not said"."""
    if value not in enum.values_by_number:
        yield FieldViolation(field, f"Input should be {_alternatives(_spellings(enum))}")


def never(field: str, *, value: bool) -> Violations:
    if value:
        yield FieldViolation(field, "Input should be False")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _spellings(enum: EnumDescriptor) -> list[str]:
    names = [value.GetOptions().Extensions[rest_pb2.value].name for value in enum.values]
    return [name for name in names if name]


def _alternatives(names: list[str]) -> str:
    *most, last = [f"'{name}'" for name in names]
    return f"{', '.join(most)} or {last}" if most else last
