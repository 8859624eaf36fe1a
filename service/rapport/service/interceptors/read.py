"""Reading the request message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf.message import DecodeError

from rapport.service.errors import RequestMissingError, UnreadableRequestError
from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.scope import Scope


def read_request(timeout_s: float) -> Scope:
    """Reads the request within the timeout: one that never comes would hold its place for ever."""

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                context.request = await context.rpc.read()
        except TimeoutError:
            text = f"The request did not come within {timeout_s:g} s"
            raise RequestMissingError(text) from None
        except DecodeError as error:
            raise UnreadableRequestError from error
        if context.request is grpc.aio.EOF:
            raise RequestMissingError("The call ended without a request")
        yield

    return scope
