"""Reading and parsing the request message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from rapport.common.fair_threads import FairThreads, Steps
from rapport.service.errors import RequestMissingError, UnreadableRequestError
from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.field_count import check_field_count
from rapport.service.interceptors.scope import Scope

# Parsing takes some milliseconds at most. What is larger is parsed in another thread.
SMALL_BYTES = 64 << 10


def read_request(timeout_s: float, threads: FairThreads) -> Scope:
    """Reads the request within the timeout: one that never comes would hold its place for ever."""

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                data = await context.rpc.read()
        except TimeoutError:
            text = f"The request did not come within {timeout_s:g} s"
            raise RequestMissingError(text) from None
        if data is grpc.aio.EOF:
            raise RequestMissingError("The call ended without a request")
        kind = _request_type(context.method)
        try:
            if len(data) <= SMALL_BYTES:
                context.request = kind.FromString(data)
            else:
                context.request = await threads.run_steps(context.caller, _parse(data, kind))
        except DecodeError as error:
            raise UnreadableRequestError from error
        yield

    return scope


def _parse(data: bytes, kind: type[Message]) -> Steps[Message]:
    yield from check_field_count(data, kind)
    return kind.FromString(data)


@cache
def _request_type(method: str) -> type[Message]:
    """The request message of an RPC, such as `/rapport.v1.ChatService/Tokenize`."""
    name = method.removeprefix("/").replace("/", ".")
    return GetMessageClass(descriptor_pool.Default().FindMethodByName(name).input_type)
