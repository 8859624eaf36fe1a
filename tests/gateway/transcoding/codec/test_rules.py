"""Options that cannot be followed are refused when a message is compiled."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.text_format import Parse

from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.encode import encoder
from rapport.gateway.transcoding.codec.rules import UnsupportedError
from tests.gateway.library import pool

INT = "label: LABEL_OPTIONAL type: TYPE_INT32"
TEXT = "label: LABEL_OPTIONAL type: TYPE_STRING"
RULE = "options { [rapport.rest.v1.%s] { %s } }"


class Codec:
    def __init__(self, descriptor: Descriptor) -> None:
        self.encode = encoder(descriptor)
        self.decode = decoder(descriptor, ignore_unknown=False)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (RULE % ("message", "shape: SHAPE_INLINE"), "needs exactly one field"),
        (
            f'field {{ name: "a" number: 1 {INT} }}' + RULE % ("message", "shape: SHAPE_UNION"),
            "needs one oneof",
        ),
        (
            f'field {{ name: "a" number: 1 {INT} ' + RULE % ("field", "raw: RAW_JSON") + "}",
            "only a string can be raw",
        ),
        (
            f'field {{ name: "a" number: 1 {TEXT} ' + RULE % ("field", "flat: true") + "}",
            "only a plain message of a tagged union is flat",
        ),
        (
            f'field {{ name: "a" number: 1 {INT} }} field {{ name: "b" number: 2 {INT} '
            + RULE % ("field", 'name: "a"')
            + "}",
            "two members named",
        ),
    ],
)
def test_bad_options(fields: str, problem: str) -> None:
    """Each says what is wrong with it."""
    own = DescriptorPool()
    for name in ("google/protobuf/descriptor.proto", "rapport/rest/v1/rest.proto"):
        copied = FileDescriptorProto()
        pool().FindFileByName(name).CopyToProto(copied)
        own.Add(copied)
    text = f'name: "bad.proto" syntax: "proto3" message_type {{ name: "Bad" {fields} }}'
    own.Add(Parse(text, FileDescriptorProto()))
    descriptor = own.FindMessageTypeByName("Bad")
    with pytest.raises(UnsupportedError, match=problem):
        Codec(descriptor)
