"""The reflection client, with servers that answer in their own ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_reflection.v1alpha.reflection_pb2 import (
    ErrorResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

from rapport.gateway.upstream.reflection import ReflectionError, reflect
from tests.gateway.library import SERVICE, Library, descriptor_set, serving


class Reflection:
    """Sends each file alone, when it is asked for, and no file that is withheld."""

    def __init__(self, *, withheld: str = "", broken: bool = False) -> None:
        files = FileDescriptorSet.FromString(descriptor_set()).file
        self._files = {file.name: file.SerializeToString() for file in files}
        self._files.pop(withheld, None)
        self._broken = broken

    async def answer(self, requests: Any, _: Any) -> AsyncIterator[ServerReflectionResponse]:
        async for request in requests:
            yield self._answer(request)

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        if request.HasField("list_services"):
            named = [ServiceResponse(name=name) for name in (SERVICE, "toy.v1.Missing")]
            listed = ListServiceResponse(service=named)
            return ServerReflectionResponse(list_services_response=listed)
        symbol = request.file_containing_symbol
        file = self._files.get("toy.proto" if symbol == SERVICE else request.file_by_filename)
        if file is None:
            missing = ErrorResponse(error_code=5, error_message="not found")
            return ServerReflectionResponse(error_response=missing)
        sent = FileDescriptorResponse(file_descriptor_proto=[b"\xff" if self._broken else file])
        return ServerReflectionResponse(file_descriptor_response=sent)


@asynccontextmanager
async def reflecting(reflection: Reflection) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server that has the newer version of reflection only."""
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.answer,
        ServerReflectionRequest.FromString,
        ServerReflectionResponse.SerializeToString,
    )
    server = grpc.aio.server()
    name = "grpc.reflection.v1.ServerReflection"
    handlers = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def names(files: FileDescriptorSet) -> set[str]:
    return {file.name for file in files.file}


EXPECTED = names(FileDescriptorSet.FromString(descriptor_set()))


async def test_older_version() -> None:
    """A server with v1alpha alone is understood; what it can't describe is left out."""
    async with (
        serving(Library()) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        services, files = await reflect(channel)
    assert services == [SERVICE]
    assert names(files) == EXPECTED


async def test_newer_version_and_files_one_by_one() -> None:
    """A server with v1 is understood, and asked for the files that it does not send by itself."""
    async with reflecting(Reflection()) as channel:
        services, files = await reflect(channel)
    assert services == [SERVICE]
    assert names(files) == EXPECTED


async def test_missing_and_broken_files() -> None:
    """A file that is missing or broken is an error that says so."""
    async with reflecting(Reflection(withheld="google/api/http.proto")) as channel:
        with pytest.raises(ReflectionError, match="not found"):
            await reflect(channel)
    async with reflecting(Reflection(broken=True)) as channel:
        with pytest.raises(ReflectionError, match="broken"):
            await reflect(channel)


async def test_a_cancellation_is_never_lost() -> None:
    """Whatever the call is at when its task is cancelled, the task ends as cancelled."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        for turns in range(400):
            reflecting = asyncio.create_task(reflect(channel))
            for _ in range(turns % 40):
                await asyncio.sleep(0)
            reached = reflecting.cancel()
            await asyncio.wait([reflecting])
            assert reflecting.cancelled() is reached
    await server.stop(None)
