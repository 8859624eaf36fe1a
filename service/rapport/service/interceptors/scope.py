"""The gRPC interceptor, which runs every RPC within a list of scopes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc

from rapport.common.request_ids import VALID_REQUEST_ID
from rapport.common.telemetry.traces import TRACE_HEADERS
from rapport.service.interceptors.context import (
    REQUEST_ID,
    GrpcContext,
    RequestContext,
    set_current,
)
from rapport.service.interceptors.slow_reader import SlowReaderGuard

Scope = Callable[[RequestContext], AbstractAsyncContextManager[None]]
"""Surrounds an RPC: runs code before and after it, or ends it with an error."""


class ScopeInterceptor(grpc.aio.ServerInterceptor):
    """Runs the RPCs of some services within scopes, the outermost first.

    To gRPC a unary request is made a stream of one message, so that the RPC begins before its
    request is there. One of the scopes reads and parses it, after those that do not need it. So
    is a unary answer, because of a stream it is known when a message was taken.
    """

    def __init__(
        self,
        prefixes: str | tuple[str, ...],
        scopes: Sequence[Scope],
        slow_readers: SlowReaderGuard,
        on_reset: Callable[[], None],
        *,
        send_headers: bool = True,
    ) -> None:
        """Takes the beginnings of the methods' names, and whether answers have our headers.

        `on_reset` is called for each RPC that is cancelled before it begins.
        """
        self._prefixes = prefixes
        self._scopes = scopes
        self._slow_readers = slow_readers
        self._on_reset = on_reset
        self._send_headers = send_headers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(self._prefixes):
            return handler
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream_handler(method, handler.unary_stream or handler.stream_stream),
                None,
                handler.response_serializer,
            )
        return grpc.stream_stream_rpc_method_handler(
            self._unary_handler(method, handler.unary_unary, handler.response_serializer)
        )

    def _unary_handler(
        self, method: str, servicer: Callable[..., Any], serialize: Callable[[Any], bytes]
    ) -> Callable[..., Any]:
        async def unary(_: object, rpc: GrpcContext) -> AsyncIterator[bytes]:
            async with self._entered(method, rpc, streamed=False) as context:
                message = await servicer(context.request, rpc)
                if message is None:
                    return  # with the status that the servicer has set
                # The message takes several times as much memory, and is not kept until it is read.
                answer = serialize(message)
                del message
                with self._slow_readers.watch(context, len(answer)) as watch:
                    await context.send_headers()
                    watch.start_message()
                    yield answer

        return unary

    def _stream_handler(self, method: str, servicer: Callable[..., Any]) -> Callable[..., Any]:
        async def stream(_: object, rpc: GrpcContext) -> AsyncIterator[Any]:
            async with (
                self._entered(method, rpc, streamed=True) as context,
                aclosing(servicer(context.request, rpc)) as messages,
            ):
                with self._slow_readers.watch(context) as watch:
                    async for message in messages:
                        if not context.headers_sent:
                            await context.send_headers()
                        watch.start_message()
                        yield message
                        watch.end_message()

        return stream

    @asynccontextmanager
    async def _entered(
        self, method: str, rpc: GrpcContext, *, streamed: bool
    ) -> AsyncIterator[RequestContext]:
        # In the next round of the event loop a call is cancelled that was reset as soon as it was
        # begun. Thousands of them would hold up others with what is done for each.
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._on_reset()
            raise
        trace_headers = {name: metadata_value(rpc, name) for name in TRACE_HEADERS}
        context = RequestContext(rpc, method, request_id(rpc), streamed, trace_headers)
        context.headers_sent = not self._send_headers
        set_current(context)
        async with AsyncExitStack() as stack:
            for scope in self._scopes:
                await stack.enter_async_context(scope(context))
            yield context


def metadata_value(rpc: GrpcContext, name: str) -> str:
    """The first value of a name in the caller's metadata; empty without one."""
    for key, value in rpc.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


def request_id(rpc: GrpcContext) -> str:
    """The id that the caller gives the request, or a new one."""
    given = metadata_value(rpc, REQUEST_ID)
    return given if VALID_REQUEST_ID.fullmatch(given) else str(uuid4())
