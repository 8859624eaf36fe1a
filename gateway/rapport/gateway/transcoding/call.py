"""Calls to the upstream and their answers over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import orjson
from google.protobuf.message import Message

from rapport.common.telemetry.formatters import fields
from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import internal
from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.transcoding import sse
from rapport.gateway.transcoding.methods import Method
from rapport.gateway.transcoding.rpc_errors import error_of, response_headers

logger = logging.getLogger(__name__)

JSON = {"content-type": "application/json"}
# Rendering a megabyte takes up to half a second: the event loop does not wait for it.
MAX_INLINE_REPLY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One call of an RPC for one HTTP request. Times are in seconds, None for no limit.

    `render` renders what would hold up the event loop.
    """

    exchange: Exchange
    dialect: Dialect
    channel: grpc.aio.Channel
    method: Method
    request: Message
    timeout: float | None
    own_deadline: bool
    keepalive: float | None
    render: Callable[[Callable[[], bytes]], Awaitable[bytes]]

    async def answer(self) -> None:
        """Calls and answers; cancelled, it cancels the call.

        Raises ApiError if the call fails before its first message.
        """
        try:
            await (self._stream() if self.method.streams else self._unary())
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self.dialect, own_deadline=self.own_deadline) from error

    async def _unary(self) -> None:
        rpc: Any = self.channel.unary_unary(self.method.path)
        call = rpc(
            self.request.SerializeToString(), timeout=self.timeout, metadata=self._metadata()
        )
        try:
            reply = await call
            headers = response_headers(self.dialect, await call.initial_metadata())
        finally:
            call.cancel()
        await self.exchange.respond(200, await self._rendered(reply), {**JSON, **headers})

    async def _rendered(self, reply: bytes) -> bytes:
        render = self.method.renderer(self.request)
        if len(reply) <= MAX_INLINE_REPLY_BYTES:
            return render(reply)
        return await self.render(partial(render, reply))

    async def _stream(self) -> None:
        rpc: Any = self.channel.unary_stream(self.method.path)
        call = rpc(
            self.request.SerializeToString(), timeout=self.timeout, metadata=self._metadata()
        )
        try:
            # Until the first message has come the status line can tell of an error.
            first = await call.read()
            headers = response_headers(self.dialect, await call.initial_metadata())
            await self.exchange.start(200, {**sse.HEADERS, **headers}, filler=sse.KEEPALIVE)
            await self._events(call, first)
        finally:
            call.cancel()

    async def _events(self, call: sse.Stream, first: Any) -> None:
        """Sends the messages as events. After a failure the body is left unfinished."""
        try:
            await self._pump(call, first)
        except grpc.aio.AioRpcError as error:
            failure = error_of(error, self.dialect)
        except Exception:
            id_ = self.exchange.request_id
            logger.exception("request %s: the stream failed", id_, extra=fields(request_id=id_))
            failure = internal()
        else:
            await self.exchange.finish(self.dialect.stream_end)
            return
        self.exchange.status = failure.status
        await self.exchange.write(sse.event(orjson.dumps(self.dialect.error_body(failure))))

    async def _pump(self, call: sse.Stream, first: Any) -> None:
        render = self.method.renderer(self.request)
        async with aclosing(sse.messages(call, first, keepalive=self.keepalive)) as messages:
            async for message in messages:
                event = sse.KEEPALIVE if message is None else sse.event(render(message))
                await self.exchange.write(event)

    def _metadata(self) -> list[tuple[str, str]]:
        headers, names = self.exchange.headers, self.dialect.forwarded_headers
        forwarded = [(name, headers[name]) for name in names if name in headers]
        forwarded += self.dialect.routing(self.request, headers).items()
        forwarded += self.exchange.trace.items()
        # gRPC takes printable ASCII alone.
        valid = [(name, text) for name, text in forwarded if text.isascii() and text.isprintable()]
        return [*valid, ("x-request-id", self.exchange.request_id)]
