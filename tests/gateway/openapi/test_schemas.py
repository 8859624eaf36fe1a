"""Schemas of messages: they say what the codec does."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema_rs
import orjson
import pytest
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rapport.gateway.openapi.comments import Comments
from rapport.gateway.openapi.names import Names
from rapport.gateway.openapi.schemas import Schemas
from rapport.gateway.transcoding.codec import rules
from rapport.gateway.transcoding.codec.violations import InvalidError
from rapport.rest.v1 import rest_pb2
from rapport.v1 import chat_pb2, tool_pb2
from tests.gateway.library import message
from tests.gateway.strategies import messages, near_misses, values
from tests.gateway.transcoding.codec.test_round_trip import decoder_of, encoder_of, every_message

# Of each of some 70 messages, whose fields are of few kinds.
QUICK = settings(max_examples=10, database=None, suppress_health_check=list(HealthCheck))


def schema(descriptor: Descriptor, *, read: bool, closed: bool = True) -> Any:
    """The message's schema as a document of its own."""
    names = Names([descriptor], [])
    schemas = Schemas(names, Comments(FileDescriptorSet()), read=read, closed=closed)
    root = schemas.message(descriptor)
    return {**root, "components": {"schemas": schemas.components}}


@cache
def codec_validator(descriptor: Descriptor) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(codec_schema(descriptor))


@cache
def writing_validator(descriptor: Descriptor) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(schema(descriptor, read=False))


def codec_schema(descriptor: Descriptor) -> Any:
    """The schema of what the codec reads: without the limits, which the service checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "field_limits", lambda _: rest_pb2.FieldLimits())
        return schema(descriptor, read=True)


def problem(descriptor: Descriptor, value: Any) -> str:
    """What the codec finds wrong, nothing if it reads the value."""
    try:
        decoder_of(descriptor, ignore_unknown=False)(value)
    except InvalidError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("descriptor", list(every_message()))
@given(data=st.data())
@QUICK
def test_reading(descriptor: Descriptor, data: st.DataObject) -> None:
    """JSON fits a request's schema without limits if, and only if, the codec reads it.

    What a schema cannot say is the range of a map's keys, and that in a union of
    integers and fractions 1 is not 1.0. What it says beyond the codec is that a field
    that the service requires has to be there.
    """
    drawn = data.draw(near_misses(descriptor) | values)
    value = orjson.loads(orjson.dumps(drawn))
    errors = list(codec_validator(descriptor).iter_errors(value))
    found = problem(descriptor, value)
    if found:
        assert errors or "or equal to" in found
    else:
        assert all(map(is_required, errors))


def is_required(error: jsonschema_rs.ValidationError) -> bool:
    """Whether all that is wrong is that a required member is missing or null."""
    return error.schema_path[-1] == "required" or error.instance is None


@pytest.mark.parametrize("descriptor", list(every_message()))
@given(data=st.data())
@QUICK
def test_writing(descriptor: Descriptor, data: st.DataObject) -> None:
    """What the codec writes fits a response's schema, which has no member too few."""
    written = orjson.dumps(encoder_of(descriptor)(data.draw(messages(descriptor))))
    writing_validator(descriptor).validate(orjson.loads(written))


def test_open_or_closed() -> None:
    """Unknown members are refused where the gateway refuses them."""
    book = message("Book").DESCRIPTOR
    for closed in (True, False):
        check = jsonschema_rs.validator_for(schema(book, read=True, closed=closed))
        assert check.is_valid({"isbn": "1"}) is not closed


def test_members_that_are_always_there() -> None:
    """A response's required members are those that the codec never leaves out."""
    names = schema(message("TellChunk").DESCRIPTOR, read=False)["components"]["schemas"]
    assert names["TellChunk"]["required"] == ["index", "text", "total"]
    assert names["TellChunk"]["properties"]["total"]["type"] == ["integer", "null"]
    optional = {"lent", "rating", "genre"}
    book = schema(message("Book").DESCRIPTOR, read=False)["components"]["schemas"]["Book"]
    assert {*book["properties"]} - {*book["required"]} == optional


def test_single_arm_is_no_choice() -> None:
    """A tagged union of one arm is an object with a constant."""
    tool = schema(tool_pb2.Tool.DESCRIPTOR, read=True)["components"]["schemas"]["Tool"]
    assert tool["required"] == ["type", "function"]
    assert tool["properties"]["type"] == {"type": "string", "const": "function"}


def test_inline_messages_have_no_name() -> None:
    """A message that is a list in JSON stands as a list where it is used."""
    stop = codec_schema(chat_pb2.StopSequences.DESCRIPTOR)["components"]["schemas"]
    assert stop == {
        "StopSequences": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        }
    }


def test_required_members() -> None:
    """A field that google.api.field_behavior calls required must be there, and not null."""
    pool, file = DescriptorPool(), FileDescriptorProto(name="r.proto", package="r")
    for dependency in (descriptor_pb2.DESCRIPTOR, field_behavior_pb2.DESCRIPTOR):
        pool.AddSerializedFile(dependency.serialized_pb)
        file.dependency.append(dependency.name)
    asked = file.message_type.add(name="Asked")
    for number, name in enumerate(("must", "may"), 1):
        asked.field.add(name=name, number=number, type=FieldDescriptorProto.TYPE_STRING)
    behaviors = asked.field[0].options.Extensions[field_behavior_pb2.field_behavior]
    behaviors.append(field_behavior_pb2.REQUIRED)
    pool.Add(file)
    check = jsonschema_rs.validator_for(schema(pool.FindMessageTypeByName("r.Asked"), read=True))
    assert check.is_valid({"must": "", "may": None})
    assert not check.is_valid({"may": ""})
    assert not check.is_valid({"must": None})
