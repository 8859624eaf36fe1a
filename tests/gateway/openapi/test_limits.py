"""The limits of fields as keywords of JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from rapport.gateway.openapi.comments import Comments
from rapport.gateway.openapi.names import Names
from rapport.gateway.openapi.schemas import Schemas
from rapport.v1 import chat_pb2, logprobs_pb2, tool_pb2

REQUEST = chat_pb2.CreateChatCompletionRequest.DESCRIPTOR
KEYWORDS = {
    *("minimum", "maximum", "minLength", "maxLength", "pattern"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
}


def value(descriptor: Descriptor, field: str, *, read: bool = True) -> Any:
    """The schema of a field's value."""
    schemas = Schemas(
        Names([descriptor], []), Comments(FileDescriptorSet()), read=read, closed=True
    )
    return schemas.value(descriptor.fields_by_name[field])


def limits(schema: Any) -> Any:
    return {name: limit for name, limit in schema.items() if name in KEYWORDS}


@pytest.mark.parametrize(
    ("descriptor", "field", "expected"),
    [
        (REQUEST, "temperature", {"minimum": 0, "maximum": 2}),
        (REQUEST, "presence_penalty", {"minimum": -2, "maximum": 2}),
        (REQUEST, "mirostat_lr", {"minimum": 0}),
        (REQUEST, "n", {"minimum": 1, "maximum": 128}),
        (REQUEST, "max_tokens", {"minimum": 1, "maximum": 2**31 - 1}),
        (REQUEST, "user", {"maxLength": 1024}),
        (REQUEST, "messages", {"minItems": 1, "maxItems": 10_000}),
        (REQUEST, "tools", {"maxItems": 128}),
        (REQUEST, "logit_bias", {"maxProperties": 4096}),
        (REQUEST, "store", {}),
        (logprobs_pb2.LogprobsRequest.DESCRIPTOR, "count", {"minimum": 0, "maximum": 5}),
        (
            tool_pb2.FunctionDefinition.DESCRIPTOR,
            "name",
            {"pattern": "^[A-Za-z0-9_-]{1,64}$"},
        ),
    ],
)
def test_fields(descriptor: Descriptor, field: str, expected: dict[str, Any]) -> None:
    """A field has the limits of its proto; an integer also those of its type."""
    assert limits(value(descriptor, field)) == expected


def test_whole_numbers() -> None:
    """A limit that is a whole number is one in JSON, too."""
    assert isinstance(value(REQUEST, "temperature")["maximum"], int)


def test_items() -> None:
    """The limits of texts in a list are those of its items."""
    stop = value(chat_pb2.StopList.DESCRIPTOR, "items")
    assert limits(stop) == {"maxItems": 4}
    assert limits(stop["items"]) == {"minLength": 1, "maxLength": 1000}


def test_maps() -> None:
    """The limits of numbers in a map are those of its values; those of texts are also of keys."""
    bias, notes = value(REQUEST, "logit_bias"), value(REQUEST, "metadata")
    assert limits(bias["additionalProperties"]) == {"minimum": -100, "maximum": 100}
    assert "maxLength" not in bias["propertyNames"]
    assert notes["maxProperties"] == 64
    assert notes["propertyNames"] == limits(notes["additionalProperties"]) == {"maxLength": 1024}


def test_responses_have_none() -> None:
    """Limits are those of requests."""
    assert limits(value(tool_pb2.ToolCall.DESCRIPTOR, "id", read=False)) == {}
