"""gRPC reflection, in version 1 and in the v1alpha that grpcio-reflection ships."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2

METHOD = "ServerReflectionInfo"
V1ALPHA = reflection.SERVICE_NAME
V1 = V1ALPHA.replace("v1alpha", "v1")


def add_reflection(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """Adds the reflection service, which lists the services and their protos.

    The two versions differ only in their names, so one servicer answers both.
    """
    descriptor_pool.Default().Add(_v1_protos())
    servicer = CommentedReflection([*services, V1ALPHA, V1])
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.answer,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1ALPHA, V1):
        server.add_registered_method_handlers(name, {METHOD: handler})


class CommentedReflection:
    """Sends rapport's protos with their comments, which the generated code has lost."""

    def __init__(self, services: Iterable[str]) -> None:
        self._servicer: Any = reflection.aio.ReflectionServicer(services)
        compiled = files("rapport.v1").joinpath("protos.binpb").read_bytes()
        protos = descriptor_pb2.FileDescriptorSet.FromString(compiled).file
        self._commented = {file.name: file.SerializeToString() for file in protos}

    async def answer(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for reply in self._servicer.ServerReflectionInfo(requests, context):
            if reply.HasField("file_descriptor_response"):
                sent = reply.file_descriptor_response.file_descriptor_proto
                sent[:] = [self._with_comments(file) for file in sent]
            yield reply

    def _with_comments(self, file: bytes) -> bytes:
        name = descriptor_pb2.FileDescriptorProto.FromString(file).name
        return self._commented.get(name, file)


def _v1_protos() -> descriptor_pb2.FileDescriptorProto:
    protos = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(protos)
    renamed = text_format.MessageToString(protos).replace("v1alpha", "v1")
    return text_format.Parse(renamed, descriptor_pb2.FileDescriptorProto())
