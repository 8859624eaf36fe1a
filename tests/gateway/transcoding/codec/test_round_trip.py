"""What is true of every message: of the toy service, and of rapport.v1."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.encode import encoder
from rapport.gateway.transcoding.codec.rules import UnsupportedError
from rapport.gateway.transcoding.codec.violations import InvalidError
from rapport.v1 import chat_pb2, model_pb2
from tests.gateway.library import pool
from tests.gateway.strategies import messages, near_misses, values

FILES = [
    chat_pb2.DESCRIPTOR,
    *(file for file in chat_pb2.DESCRIPTOR.dependencies if file.package == "rapport.v1"),
    model_pb2.DESCRIPTOR,
    pool().FindFileByName("toy.proto"),
]
# Of each of some 70 messages, whose fields are of few kinds.
QUICK = settings(max_examples=8, database=None, suppress_health_check=list(HealthCheck))


# Compiled once for all examples of a message.
encoder_of, decoder_of = cache(encoder), cache(decoder)


def every_message() -> Iterator[Any]:
    for message in itertools.chain(*(file.message_types_by_name.values() for file in FILES)):
        if message.name != "FreeForm":
            yield pytest.param(message, id=message.name)


@pytest.mark.parametrize("descriptor", list(every_message()))
@given(data=st.data())
@QUICK
def test_round_trips(descriptor: Descriptor, data: st.DataObject) -> None:
    """A message survives JSON, and its JSON survives being read and written again."""
    encode, decode = encoder_of(descriptor), decoder_of(descriptor, ignore_unknown=False)
    message = data.draw(messages(descriptor))
    written = orjson.dumps(encode(message))
    read = decode(orjson.loads(written))
    assert read == message
    assert orjson.loads(orjson.dumps(encode(read))) == orjson.loads(written)
    assert type(message).FromString(read.SerializeToString()) == message


@pytest.mark.parametrize("descriptor", list(every_message()))
@given(data=st.data())
@QUICK
def test_any_json_is_read_or_refused(descriptor: Descriptor, data: st.DataObject) -> None:
    """JSON that is no message raises violations and nothing else; what is read can be sent."""
    value = data.draw(values | near_misses(descriptor))
    for ignore_unknown in (False, True):
        with suppress(InvalidError):
            read = decoder_of(descriptor, ignore_unknown=ignore_unknown)(value)
            assert read.FromString(read.SerializeToString()) == read


def test_unsupported_types_are_refused() -> None:
    """A message with a type that has no JSON form here is refused when it is compiled."""
    for name in ("toy.v1.FreeForm", "google.protobuf.Struct"):
        descriptor = pool().FindMessageTypeByName(name)
        with pytest.raises(UnsupportedError, match="is not supported"):
            encoder(descriptor)
        with pytest.raises(UnsupportedError, match="is not supported"):
            decoder(descriptor, ignore_unknown=False)
