"""Requests on their way in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from google.protobuf.message import DecodeError

from rapport.service.errors import RequestMissingError, UnreadableRequestError
from rapport.service.interceptors.interceptors import Call, Scope


def read_request(seconds: float) -> Scope:
    """Waits for the request that long: one that never comes would hold its place for ever."""

    @asynccontextmanager
    async def read(call: Call) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                call.request = await call.context.read()
        except TimeoutError:
            raise RequestMissingError(f"The request did not come within {seconds:g} s") from None
        except DecodeError as error:
            raise UnreadableRequestError from error
        if call.request is grpc.aio.EOF:
            raise RequestMissingError("The call ended without a request")
        yield

    return read
