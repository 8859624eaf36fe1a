"""Calls over gRPC with the messages as bytes, and their answers without what varies."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # noqa: F401 - known to the pool of descriptors
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from rapport.v1 import chat_pb2, completion_pb2, model_pb2, status_pb2, tokenize_pb2
from tests.recorded.masks import Names, header_lines, masked
from tests.recorded.spec import Json

TIMEOUT = 60.0
ROOM = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# What a mask leaves in the place of a number.
BARE = re.compile(r"(?<=[ \[])(≈-?[\d.]+|<\w+>)(?=[,}\]])")
# gRPC's own.
NOT_OURS = ("grpc-", "content-type", "user-agent", "accept-encoding", "date")


class Method(NamedTuple):
    """A method's path, its messages, and whether both or the answer alone is a stream."""

    path: str
    request: type[Message]
    response: type[Message]
    streams: bool = False
    both: bool = False


def _reflection(version: str) -> Method:
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    request = reflection_pb2.ServerReflectionRequest
    return Method(path, request, reflection_pb2.ServerReflectionResponse, streams=True, both=True)


_CHAT = "/rapport.v1.ChatService"
_COMPLETION = "/rapport.v1.CompletionService"
_ASKED = chat_pb2.CreateChatCompletionRequest
METHODS = {
    "Chat/Create": Method(
        f"{_CHAT}/CreateChatCompletion", _ASKED, chat_pb2.CreateChatCompletionResponse
    ),
    "Chat/Stream": Method(
        f"{_CHAT}/StreamChatCompletion",
        _ASKED,
        chat_pb2.StreamChatCompletionResponse,
        streams=True,
    ),
    "Chat/Tokenize": Method(
        f"{_CHAT}/Tokenize", tokenize_pb2.TokenizeRequest, tokenize_pb2.TokenizeResponse
    ),
    "Chat/Nothing": Method(f"{_CHAT}/Nothing", _ASKED, chat_pb2.CreateChatCompletionResponse),
    "Nothing/Nothing": Method(
        "/rapport.v1.Nothing/Nothing", _ASKED, chat_pb2.CreateChatCompletionResponse
    ),
    "Completion/Create": Method(
        f"{_COMPLETION}/CreateCompletion",
        completion_pb2.CreateCompletionRequest,
        completion_pb2.CreateCompletionResponse,
    ),
    "Completion/Stream": Method(
        f"{_COMPLETION}/StreamCompletion",
        completion_pb2.CreateCompletionRequest,
        completion_pb2.StreamCompletionResponse,
        streams=True,
    ),
    "Model/List": Method(
        "/rapport.v1.ModelService/ListModels",
        model_pb2.ListModelsRequest,
        model_pb2.ListModelsResponse,
    ),
    "Model/Get": Method(
        "/rapport.v1.ModelService/GetModel", model_pb2.GetModelRequest, model_pb2.GetModelResponse
    ),
    "Status/Get": Method(
        "/rapport.v1.StatusService/GetStatus",
        status_pb2.GetStatusRequest,
        status_pb2.GetStatusResponse,
    ),
    "Health/Check": Method(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest,
        health_pb2.HealthCheckResponse,
    ),
    "Reflection/v1": _reflection("v1"),
    "Reflection/v1alpha": _reflection("v1alpha"),
}


def ask(channel: grpc.Channel, request: Json) -> Json:
    """The answer to a call."""
    method = METHODS[request["call"]]
    names = Names()
    messages: list[bytes] = []
    call = begun(channel, method, request)
    with suppress(grpc.RpcError):
        messages.extend(call)
    details = "<details>" if request.get("mask") == "details" else call.details() or ""
    answer: Json = {"code": call.code().name, "details": details}
    answer["initial"] = header_lines(ours(call.initial_metadata()), names)
    answer["trailing"] = header_lines(ours(call.trailing_metadata()), names)
    answer["errors"] = errors_of(call)
    answer["messages"] = [kept(method.response.FromString(each), request) for each in messages]
    text = masked(json.dumps(answer, ensure_ascii=False), names, request.get("mask", ""))
    text = BARE.sub(r'"\1"', text)
    return dict(json.loads(text))


def begun(channel: Any, method: Method, request: Json) -> Any:
    """A call that is under way; it is read as a stream, whatever the server takes it for."""
    sent = message_of(method, request)
    options = {
        "timeout": request.get("timeout", TIMEOUT),
        "metadata": [*request.get("metadata", {}).items()],
    }
    if method.both:
        return channel.stream_stream(method.path)(iter(sent), **options)
    return channel.unary_stream(method.path)(sent[0], **options)


def message_of(method: Method, request: Json) -> list[bytes]:
    if "base64" in request:
        return [base64.b64decode(request["base64"]) * request.get("times", 1)]
    given = request.get("message", {})
    messages = given if isinstance(given, list) else [given]
    return [json_format.ParseDict(each, method.request()).SerializeToString() for each in messages]


def ours(metadata: Iterable[tuple[str, str | bytes]] | None) -> list[tuple[str, str]]:
    """The entries that are not gRPC's."""
    entries = [
        (name, value if isinstance(value, str) else base64.b64encode(value).decode())
        for name, value in metadata or ()
    ]
    return [entry for entry in entries if not entry[0].startswith(NOT_OURS)]


def errors_of(call: Any) -> list[Json]:
    """The google.rpc details of a call that failed."""
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        return [{"unreadable": True}]
    return [json_format.MessageToDict(detail) for detail in status.details] if status else []


def kept(message: Message, request: Json) -> Json:
    """A message as JSON, and a hash of its bytes without what varies."""
    numbers = request.get("mask") == "numbers"
    text = json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        indent=None,
        sort_keys=True,
        always_print_fields_with_no_presence=numbers,
    )
    if numbers:
        return dict(json.loads(text))
    settle(message, Names())
    digest = hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()
    return {"sha256": digest} if request.get("digest") else json.loads(text) | {"sha256": digest}


def settle(message: Message, names: Names) -> None:
    """Takes out of a message what varies: ids, times, and fractions, which are rounded."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            settle_map(field, value, names)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                settle(each, names)
        elif field.is_repeated:
            settle_list(field, value)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            setattr(message, field.name, names(value))
        elif field.name == "created" or field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
            setattr(message, field.name, 1)


def settle_map(field: Any, entries: Any, names: Names) -> None:
    kind = field.message_type.fields_by_name["value"].cpp_type
    for key in list(entries):
        if kind == FieldDescriptor.CPPTYPE_MESSAGE:
            settle(entries[key], names)
        elif kind == FieldDescriptor.CPPTYPE_DOUBLE:
            entries[key] = 1


def settle_list(field: FieldDescriptor, values: Any) -> None:
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        values[:] = [1] * len(values)
