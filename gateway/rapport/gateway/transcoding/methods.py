"""Compiles RPCs from descriptors: their codecs and REST options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rapport.gateway.transcoding.codec import rules
from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.encode import Encode, encoder
from rapport.rest.v1 import rest_pb2

Render = Callable[[bytes], bytes]
Predicate = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its gRPC path, and how to encode its responses."""

    path: str
    streams: bool
    response: type[Message]
    encode: Encode
    opt_outs: dict[str, Predicate]

    def renderer(self, request: Message) -> Render:
        """The function from a serialized response to its JSON, for this request."""
        hidden = [field for field, hides in self.opt_outs.items() if hides(request)]
        parse, encode, dumps = self.response.FromString, self.encode, orjson.dumps
        if not hidden:
            return lambda raw: dumps(encode(parse(raw)))

        def render(raw: bytes) -> bytes:
            message = parse(raw)
            for field in hidden:
                message.ClearField(field)
            return dumps(encode(message))

        return render


@dataclass(frozen=True, slots=True)
class Operation:
    """The target of an HTTP route: an RPC, and its streaming twin if it has one.

    `flag` is the field of the request that asks for the twin.
    """

    decode: Callable[[Any], Message]
    method: Method
    twin: Method | None = None
    flag: str = ""

    def choose(self, request: Message) -> Method:
        """The RPC that the request asks for."""
        return self.twin if self.twin and getattr(request, self.flag) else self.method


def compile_operation(rpc: MethodDescriptor, *, ignore_unknown: bool) -> Operation:
    """Compiles an RPC.

    Raises:
        UnsupportedError: it has no REST form.
    """
    if rpc.client_streaming:
        raise rules.UnsupportedError("client streaming is not supported")
    decode = decoder(rpc.input_type, ignore_unknown=ignore_unknown)
    rule = stream_rule(rpc)
    if rule is None:
        return Operation(decode, _method(rpc))
    twin = rpc.containing_service.methods_by_name.get(rule.rpc)
    if twin is None or not _are_twins(rpc, twin):
        raise rules.UnsupportedError(f"{rule.rpc} is not its streaming twin")
    _require_bool(rpc.input_type, rule.flag)
    return Operation(decode, _method(rpc), _method(twin), rule.flag)


def stream_rule(rpc: MethodDescriptor) -> rest_pb2.StreamRule | None:
    """The option that names the RPC's streaming twin; None if it has none."""
    rule = rpc.GetOptions().Extensions[rest_pb2.method]
    return rule.stream if rule.HasField("stream") else None


def _are_twins(rpc: MethodDescriptor, twin: MethodDescriptor) -> bool:
    one_way = not rpc.server_streaming and not twin.client_streaming
    same_input = rpc.input_type.full_name == twin.input_type.full_name
    return one_way and twin.server_streaming and same_input


def _method(rpc: MethodDescriptor) -> Method:
    return Method(
        path=f"/{rpc.containing_service.full_name}/{rpc.name}",
        streams=rpc.server_streaming,
        response=GetMessageClass(rpc.output_type),
        encode=encoder(rpc.output_type),
        opt_outs={
            field.name: _explicitly_false(rpc.input_type, path)
            for field in rpc.output_type.fields
            if (path := rules.field_rule(field).opt_out)
        },
    )


def _explicitly_false(message: Descriptor, path: str) -> Predicate:
    *parents, name = path.split(".")
    for parent in parents:
        field = message.fields_by_name.get(parent)
        if field is None or field.message_type is None or field.is_repeated:
            raise rules.UnsupportedError(f"opt_out: {message.full_name} has no message {parent}")
        message = field.message_type
    _require_bool(message, name)

    def hides(request: Any) -> bool:
        for parent in parents:
            if not request.HasField(parent):
                return False
            request = getattr(request, parent)
        return request.HasField(name) and not getattr(request, name)

    return hides


def _require_bool(message: Descriptor, name: str) -> None:
    field = message.fields_by_name.get(name)
    is_bool = field is not None and field.type == FieldDescriptor.TYPE_BOOL
    if field is None or not is_bool or field.is_repeated or not field.has_presence:
        raise rules.UnsupportedError(f"{message.full_name} has no optional bool {name}")
