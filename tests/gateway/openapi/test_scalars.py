from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given
from hypothesis import strategies as st

from rapport.gateway.openapi.scalars import key
from rapport.gateway.transcoding.codec.rules import INT_RANGES

KINDS = ("int32", "int64", "uint32", "uint64")


def keys() -> Descriptor:
    """A message with a field of each integer type."""
    fields = [
        FieldDescriptorProto(
            name=kind,
            number=number,
            type=FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}"),
        )
        for number, kind in enumerate(KINDS, 1)
    ]
    file = FileDescriptorProto(name="keys.proto", syntax="proto3")
    file.message_type.append(DescriptorProto(name="Keys", field=fields))
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindMessageTypeByName("Keys")


KEYS = keys()


def described(kind: str) -> tuple[re.Pattern[str], int, int]:
    """The pattern of a type's keys, and its range."""
    field = KEYS.fields_by_name[kind]
    return re.compile(key(field)["pattern"]), *INT_RANGES[field.cpp_type]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_keys_are_the_integers_of_their_type(kind: str, data: st.DataObject) -> None:
    """What is described is what fits, near the bounds and at every length."""
    pattern, low, high = described(kind)
    near = [st.integers(bound - 1000, bound + 1000) for bound in (low, 0, high)]
    lengths = st.integers(1, 21).flatmap(lambda most: st.integers(-(10**most), 10**most))
    number = data.draw(st.one_of(*near, lengths))
    assert bool(pattern.fullmatch(str(number))) == (low <= number <= high)


@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_written_in_one_way(kind: str) -> None:
    """The bounds are keys; zeros in front, signs that say nothing and other digits are not."""
    pattern, low, high = described(kind)
    assert all(pattern.fullmatch(str(number)) for number in (low, high, 0, 9, 10))
    odd = ("", " 1", "-0", "00", "01", "+1", "1.0", "1e2", "1_0", "٣")
    assert not any(map(pattern.fullmatch, [str(low - 1), str(high + 1), *odd]))
