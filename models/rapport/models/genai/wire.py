"""Counts what is in a serialised message, before it is parsed.

A message of two bytes takes two hundred when it is parsed, so a file that is not too large to read
may be too large to parse.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

VARINT, FIXED_64, LENGTH_DELIMITED, FIXED_32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED_64: 8, FIXED_32: 4}
LAST_SHIFT = 63  # a varint has ten bytes at most


class MalformedMessageError(Exception):
    """The bytes are no message."""


def has_more_fields(data: bytes, kind_of_message: type[Message], limit: int) -> bool:
    """Whether a message and those in it have more fields than that, each value counted.

    Raises:
        MalformedMessageError: it is damaged.
    """
    count = 0
    waiting: list[tuple[int, int, Any]] = [(0, len(data), kind_of_message.DESCRIPTOR)]
    while waiting:
        place, end, message = waiting.pop()
        fields = message.fields_by_number
        while place < end:
            count += 1
            if count > limit:
                return True
            tag, place = _varint(data, place, end)
            kind = tag & 7
            if kind == VARINT:
                _, place = _varint(data, place, end)
                continue
            start = place
            if kind == LENGTH_DELIMITED:
                length, start = _varint(data, place, end)
            elif kind in FIXED_BYTES:
                length = FIXED_BYTES[kind]
            else:
                raise MalformedMessageError(f"wire type {kind} at byte {place}")
            place = start + length
            if place > end:
                raise MalformedMessageError(f"a field ends behind its message, at byte {start}")
            field = fields.get(tag >> 3)
            if kind == LENGTH_DELIMITED and field is not None and field.message_type is not None:
                waiting.append((start, place, field.message_type))
    return False


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A number and the place behind it."""
    value = shift = 0
    while place < end and shift <= LAST_SHIFT:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - no further byte
            return value, place
        shift += 7
    raise MalformedMessageError(f"a number has no end, at byte {place}")
