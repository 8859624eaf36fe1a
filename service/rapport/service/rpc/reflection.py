"""gRPC reflection, in version 1 and in the v1alpha that grpcio-reflection ships."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.errors import FieldViolation, InvalidRequestError, UnreadableRequestError
from rapport.service.interceptors.context import GrpcContext
from rapport.service.interceptors.read import MessageReader
from rapport.service.keys.bucket import Bucket

METHOD = "ServerReflectionInfo"
V1ALPHA = reflection.SERVICE_NAME
V1 = V1ALPHA.replace("v1alpha", "v1")

# Tools ask for a few dozen names on a stream, which take some 100 KiB each.
MAX_REQUESTS = 256
"""Requests on one stream."""
MAX_REQUEST_BYTES = 4096
MAX_BYTES_PER_MINUTE = 8 << 20
"""Of answers, on one connection."""
MAX_BUDGETS = 1024

Request = reflection_pb2.ServerReflectionRequest
Response = reflection_pb2.ServerReflectionResponse


def add_reflection(server: grpc.aio.Server, services: Iterable[str], reader: MessageReader) -> None:
    """Adds the reflection service, which lists the services and their protos.

    The two versions differ only in their names, so one servicer answers both.
    """
    descriptor_pool.Default().Add(_v1_protos())
    servicer = ReflectionService(Answers([*services, V1ALPHA, V1]), reader)
    handler: Any = grpc.stream_stream_rpc_method_handler(servicer.ServerReflectionInfo)
    for name in (V1ALPHA, V1):
        server.add_registered_method_handlers(name, {METHOD: handler})


class ReflectionService:
    """Answers one request after another, within the budgets of its stream and connection."""

    def __init__(self, answers: Answers, reader: MessageReader) -> None:
        self._answers = answers
        self._reader = reader
        self._budgets = Budgets(MAX_BYTES_PER_MINUTE)

    async def ServerReflectionInfo(  # noqa: N802 - named by the proto
        self, _: object, rpc: GrpcContext
    ) -> AsyncIterator[bytes]:
        budget = self._budgets.of(rpc.peer())
        requests = 0
        while (data := await self._reader.read(rpc)) is not grpc.aio.EOF:
            requests += 1
            if requests > MAX_REQUESTS:
                text = f"a stream of reflection answers {MAX_REQUESTS} requests"
                raise OverloadedError(text, Bound.RPCS, 0.0)
            request = _parse(data)
            now = time.monotonic()
            if budget.remaining(now) < 0:
                text = "the connection has had too many bytes of answers in the last minute"
                raise OverloadedError(text, Bound.RPCS, budget.wait_s(now))
            answer = await self._answers.to(request)
            budget.take(len(answer), now)
            yield answer


class Answers:
    """Serialized answers, each computed once.

    They have rapport's protos with their comments, which the generated code has lost.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._servicer: Any = reflection.aio.ReflectionServicer(services)
        compiled = files("rapport.v1").joinpath("protos.binpb").read_bytes()
        protos = descriptor_pb2.FileDescriptorSet.FromString(compiled).file
        self._commented = {file.name: file.SerializeToString() for file in protos}
        self._known: dict[bytes, bytes] = {}
        """By request. What is not found is not kept, so there are no more than symbols."""
        self._distinct: dict[bytes, bytes] = {}
        """Symbols of one file share one answer."""

    async def to(self, request: Request) -> bytes:
        """The answer to a request, which it repeats."""
        asked = Request()
        asked.CopyFrom(request)
        asked.ClearField("host")
        key = asked.SerializeToString(deterministic=True)
        answer = self._known.get(key) or await self._compute(asked, key)
        # Messages that are joined are one message.
        return Response(original_request=request).SerializeToString() + answer

    async def _compute(self, request: Request, key: bytes) -> bytes:
        response: Any = await anext(self._servicer.ServerReflectionInfo(_only(request), None))
        if response.HasField("file_descriptor_response"):
            sent = response.file_descriptor_response.file_descriptor_proto
            sent[:] = [self._with_comments(file) for file in sent]
        found = not response.HasField("error_response")
        response.ClearField("original_request")
        answer: bytes = response.SerializeToString()
        if found:
            answer = self._known[key] = self._distinct.setdefault(answer, answer)
        return answer

    def _with_comments(self, file: bytes) -> bytes:
        name = descriptor_pb2.FileDescriptorProto.FromString(file).name
        return self._commented.get(name, file)


class Budgets:
    """The bytes per minute of each connection that had some lately."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._budgets: dict[str, Bucket] = {}

    def of(self, connection: str) -> Bucket:
        """The budget of a connection; beyond so many connections the oldest is forgotten."""
        if connection not in self._budgets and len(self._budgets) >= MAX_BUDGETS:
            del self._budgets[next(iter(self._budgets))]
        return self._budgets.setdefault(connection, Bucket(self._per_minute))


def _parse(data: bytes) -> Request:
    try:
        request = Request.FromString(data)
    except DecodeError as error:
        raise UnreadableRequestError from error
    if len(data) > MAX_REQUEST_BYTES:
        field = request.WhichOneof("message_request") or "host"
        text = f"The request should have at most {MAX_REQUEST_BYTES} bytes"
        raise InvalidRequestError([FieldViolation(field, text)])
    return request


async def _only(request: Request) -> AsyncIterator[Request]:
    yield request


def _v1_protos() -> descriptor_pb2.FileDescriptorProto:
    protos = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(protos)
    renamed = text_format.MessageToString(protos).replace("v1alpha", "v1")
    return text_format.Parse(renamed, descriptor_pb2.FileDescriptorProto())
