"""Single rules for single values. The texts of violations are those of pydantic."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator
from functools import cache
from typing import TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from rapport.rest.v1 import rest_pb2
from rapport.rest.v1.rest_pb2 import FieldLimits
from rapport.service.errors import FieldViolation, InvalidRequestError

T = TypeVar("T")

Violations = Iterator[FieldViolation]
Parser = Generator[FieldViolation, None, T]
"""Yields what is wrong, and returns a value that may be used only if nothing is."""


def run(parser: Parser[T]) -> T:
    """The value of a parser.

    Raises:
        InvalidRequestError: something is wrong; all violations are named.
    """
    violations = []
    while True:
        try:
            violations.append(next(parser))
        except StopIteration as end:
            if violations:
                raise InvalidRequestError(violations) from None
            value: T = end.value
            return value


@cache
def limits_of(message: type[Message], field: str) -> FieldLimits:
    """The limits that the proto sets on a field."""
    return message.DESCRIPTOR.fields_by_name[field].GetOptions().Extensions[rest_pb2.limits]


def is_set(message: Message, field: str) -> bool:
    """`HasField` for a name that is not a literal."""
    return message.HasField(field)


def check_given(field: str, *, given: bool) -> Violations:
    if not given:
        yield FieldViolation(field, "Field required")


def check_range(field: str, value: float, limits: FieldLimits) -> Violations:
    if not math.isfinite(value):
        yield FieldViolation(field, "Input should be a finite number")
    elif limits.HasField("minimum") and value < limits.minimum:
        text = f"Input should be greater than or equal to {plain(limits.minimum)}"
        yield FieldViolation(field, text)
    elif limits.HasField("maximum") and value > limits.maximum:
        text = f"Input should be less than or equal to {plain(limits.maximum)}"
        yield FieldViolation(field, text)


def check_length(field: str, text: str, limits: FieldLimits) -> Violations:
    if len(text) < limits.min_length:
        least = _count(limits.min_length, "character")
        yield FieldViolation(field, f"String should have at least {least}")
    elif limits.HasField("max_length") and len(text) > limits.max_length:
        most = _count(limits.max_length, "character")
        yield FieldViolation(field, f"String should have at most {most}")


def check_min_items(field: str, items: int, limits: FieldLimits) -> Violations:
    if items < limits.min_items:
        yield _wrong_size(field, items, f"at least {_count(limits.min_items, 'item')}")


def check_max_items(field: str, items: int, limits: FieldLimits) -> Violations:
    if limits.HasField("max_items") and items > limits.max_items:
        yield _wrong_size(field, items, f"at most {_count(limits.max_items, 'item')}")


def check_pattern(field: str, text: str, limits: FieldLimits) -> Violations:
    if not re.fullmatch(limits.pattern, text):
        yield FieldViolation(field, f"String should match pattern '{limits.pattern}'")


def check_enum(field: str, value: int, enum: EnumDescriptor) -> Violations:
    """An enum field of proto3 may hold any number. Zero means that it is unset."""
    if value not in enum.values_by_number:
        yield FieldViolation(field, f"Input should be {_alternatives(_spellings(enum))}")


def plain(number: float) -> str:
    """A number in decimals, a whole one without `.0`."""
    return str(int(number) if number.is_integer() else number)


def _wrong_size(field: str, items: int, expected: str) -> FieldViolation:
    text = f"List should have {expected} after validation, not {items}"
    return FieldViolation(field, text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _spellings(enum: EnumDescriptor) -> list[str]:
    names = [value.GetOptions().Extensions[rest_pb2.value].name for value in enum.values]
    return [name for name in names if name]


def _alternatives(names: list[str]) -> str:
    *others, last = [f"'{name}'" for name in names]
    return f"{', '.join(others)} or {last}" if others else last
