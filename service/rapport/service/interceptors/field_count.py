"""Counts the fields of a serialized message, so that one with too many is not parsed.

protobuf parses a message in one go, while all other threads of the process wait. How long it takes
depends on the number of fields, of which some megabytes may have millions.
"""

from __future__ import annotations

from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from rapport.common.fair_threads import Steps
from rapport.service.errors import UnreadableRequestError

# Some 40 ms of parsing. No request that the limits of its lists allow has as many.
MAX_FIELDS = 350_000
FIELDS_PER_STEP = 1000

VARINT, FIXED64, BYTES, GROUP_START, GROUP_END, FIXED32 = range(6)
FIXED_BYTES = {FIXED64: 8, FIXED32: 4, GROUP_START: 0, GROUP_END: 0}
MAX_VARINT_BITS = 70


def check_field_count(data: bytes, message: type[Message]) -> Steps[None]:
    """Counts the fields of a message and of all messages in it. Malformed parts are passed over.

    Raises:
        UnreadableRequestError: they are more than `MAX_FIELDS`.
    """
    count = 0
    parts = [(message.DESCRIPTOR, 0, len(data))]
    while parts:
        kind, position, end = parts.pop()
        messages = _message_fields(kind)
        while position < end:
            count += 1
            if count > MAX_FIELDS:
                raise UnreadableRequestError(f"The request has more than {MAX_FIELDS} fields")
            if count % FIELDS_PER_STEP == 0:
                yield False
            number, start, position = _read_field(data, position, end)
            if number in messages:
                parts.append((messages[number], start, position))


@cache
def _message_fields(message: Descriptor) -> dict[int, Descriptor]:
    """The fields that hold messages, by number."""
    return {field.number: field.message_type for field in message.fields if field.message_type}


def _read_field(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    """The number of a field, and where its value starts and ends; `end` if it is malformed."""
    try:
        tag, start = _read_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            return number, start, _read_varint(data, start)[1]
        if wire_type == BYTES:
            length, start = _read_varint(data, start)
            return number, start, min(start + length, end)
        return number, start, start + FIXED_BYTES[wire_type]
    except (IndexError, KeyError, OverflowError):
        return 0, end, end


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number, and where what follows it starts."""
    value = 0
    for shift in range(0, MAX_VARINT_BITS, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number
            return value, position
    raise OverflowError
