"""A client of gRPC server reflection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2

TIMEOUT_S = 10.0
# The two versions differ in name only.
VERSIONS = ("v1", "v1alpha")

Request = reflection_pb2.ServerReflectionRequest


class ReflectionError(Exception):
    """The server did not describe its services; the text says why."""


async def reflect(channel: grpc.aio.Channel) -> tuple[list[str], FileDescriptorSet]:
    """The names of the services that the server describes, sorted, and their files.

    Raises:
        AioRpcError: the call failed.
        ReflectionError: the answer cannot be used.
    """
    *newer, oldest = VERSIONS
    for version in newer:
        try:
            return await _reflect(channel, version)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
    return await _reflect(channel, oldest)


async def _reflect(channel: grpc.aio.Channel, version: str) -> tuple[list[str], FileDescriptorSet]:
    [listed] = await _ask(channel, version, [Request(list_services="")])
    names = sorted(service.name for service in listed.list_services_response.service)
    described = await _ask(channel, version, [Request(file_containing_symbol=n) for n in names])
    files: dict[str, FileDescriptorProto] = {}
    _collect(files, [reply for reply in described if not _failed(reply)])
    # A server need not send the files that a file imports along with it.
    while missing := {name for file in files.values() for name in file.dependency} - files.keys():
        requests = [Request(file_by_filename=name) for name in sorted(missing)]
        _collect(files, await _ask(channel, version, requests))
        if not missing <= files.keys():
            raise ReflectionError(f"it does not know {', '.join(sorted(missing - files.keys()))}")
    known = [name for name, reply in zip(names, described, strict=True) if not _failed(reply)]
    return known, FileDescriptorSet(file=[files[name] for name in sorted(files)])


async def _ask(channel: grpc.aio.Channel, version: str, requests: list[Request]) -> list[Any]:
    ask: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=Request.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return [response async for response in ask(iter(requests))]
    finally:
        _raise_if_cancelled()


def _raise_if_cancelled() -> None:
    """Raises CancelledError, which grpc.aio swallows while a call with a stream begins."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _collect(files: dict[str, FileDescriptorProto], responses: Iterable[Any]) -> None:
    for response in responses:
        if _failed(response):
            raise ReflectionError(response.error_response.error_message)
        for serialized in response.file_descriptor_response.file_descriptor_proto:
            try:
                file = FileDescriptorProto.FromString(serialized)
            except DecodeError as error:
                raise ReflectionError("it sent a broken descriptor") from error
            files[file.name] = file


def _failed(response: Any) -> bool:
    return bool(response.HasField("error_response"))
