"""Reads the options of rest.proto from descriptors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    EnumValueDescriptor,
    FieldDescriptor,
    OneofDescriptor,
)
from google.protobuf.descriptor_pb2 import DescriptorProto

from rapport.rest.v1 import rest_pb2

UNION = rest_pb2.SHAPE_UNION
INLINE = rest_pb2.SHAPE_INLINE
RAW_JSON = rest_pb2.RAW_JSON
RAW_TEXT = rest_pb2.RAW_TEXT

INT_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class UnsupportedError(Exception):
    """A descriptor has no JSON form or no route here; the text says which and why."""


def message_rule(message: Descriptor) -> rest_pb2.MessageRule:
    return message.GetOptions().Extensions[rest_pb2.message]


def field_rule(field: FieldDescriptor) -> rest_pb2.FieldRule:
    return field.GetOptions().Extensions[rest_pb2.field]


def field_limits(field: FieldDescriptor) -> rest_pb2.FieldLimits:
    return field.GetOptions().Extensions[rest_pb2.limits]


def json_name(field: FieldDescriptor) -> str:
    return field_rule(field).name or field.name


def tag_of(oneof: OneofDescriptor | None) -> str:
    """The member that names the arm that is set; empty for a oneof without a tag."""
    return oneof.GetOptions().Extensions[rest_pb2.union].tag if oneof else ""


def spellings(field: FieldDescriptor) -> dict[str, int]:
    """JSON spelling to number, of an enum field. 0 has a spelling only if an option gives it."""
    spelled = (
        (_spelling(value), value.number) for value in cast("EnumDescriptor", field.enum_type).values
    )
    return {name: number for name, number in spelled if name}


def _spelling(value: EnumValueDescriptor) -> str:
    name = value.GetOptions().Extensions[rest_pb2.value].name
    return name or (value.name if value.number else "")


def oneof_of(field: FieldDescriptor) -> OneofDescriptor | None:
    """The oneof that the field is declared in; not the synthetic one of an `optional` field."""
    if field.containing_oneof is None:
        return None
    proto = DescriptorProto()
    cast("Descriptor", field.containing_type).CopyToProto(proto)
    return None if proto.field[field.index].proto3_optional else field.containing_oneof


def members(message: Descriptor) -> Iterator[FieldDescriptor | OneofDescriptor]:
    """Fields in the order of the proto, a tagged union once, in place of its first arm."""
    seen = set()
    for field in message.fields:
        oneof = oneof_of(field)
        if oneof is None or not tag_of(oneof):
            yield field
        elif oneof.name not in seen:
            seen.add(oneof.name)
            yield oneof


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def map_entry(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """The fields of a map's keys and of its values."""
    key, value = payload(field).fields
    return key, value


def payload(field: FieldDescriptor) -> Descriptor:
    """The type of a field that is known to hold messages."""
    return cast("Descriptor", field.message_type)


def inline_field(message: Descriptor) -> FieldDescriptor:
    if len(message.fields) != 1:
        raise UnsupportedError(f"{message.full_name}: SHAPE_INLINE needs exactly one field")
    return message.fields[0]


def union_arms(message: Descriptor) -> list[FieldDescriptor]:
    oneofs = {oneof.name for field in message.fields if (oneof := oneof_of(field))}
    if len(oneofs) != 1 or any(oneof_of(field) is None for field in message.fields):
        raise UnsupportedError(f"{message.full_name}: SHAPE_UNION needs one oneof and nothing else")
    return list(message.fields)


def check(field: FieldDescriptor) -> None:
    """Checks that a field has a JSON form here.

    Raises:
        UnsupportedError: it has none.
    """
    if field.type == FieldDescriptor.TYPE_GROUP:
        raise UnsupportedError(f"{field.full_name}: groups are not supported")
    kind = field.message_type
    if kind is not None and kind.file.package == "google.protobuf" and kind.name != "Empty":
        raise UnsupportedError(f"{field.full_name}: {kind.full_name} is not supported")
    if field_rule(field).raw and field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        raise UnsupportedError(f"{field.full_name}: only a string can be raw")
    if field_rule(field).flat and not (kind and tag_of(oneof_of(field)) and _is_plain(kind)):
        raise UnsupportedError(f"{field.full_name}: only a plain message of a tagged union is flat")


def _is_plain(message: Descriptor) -> bool:
    """Whether the JSON form is an object with one member for each field."""
    shaped = message_rule(message).shape or message.GetOptions().map_entry
    return not shaped and all(isinstance(member, FieldDescriptor) for member in members(message))
