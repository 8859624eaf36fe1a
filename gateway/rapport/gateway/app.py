"""The ASGI application: requests in, routes found, answers out."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson
from google.protobuf.message import Message

from rapport.common.telemetry.formatters import fields
from rapport.common.telemetry.traces import Tracer, Untraced
from rapport.gateway.access_log import fault, log_access, span_attributes, span_name
from rapport.gateway.config import GatewaySettings
from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.drain import DrainState, shutting_down
from rapport.gateway.errors import ApiError, bad_request, internal
from rapport.gateway.http1.exchange import DisconnectedError, Exchange
from rapport.gateway.metrics import GatewayMetrics
from rapport.gateway.pages import PATHS, Pages
from rapport.gateway.transcoding.call import UpstreamCall
from rapport.gateway.transcoding.codec.violations import InvalidError
from rapport.gateway.transcoding.routes import Route
from rapport.gateway.upstream.upstream import Upstream

logger = logging.getLogger(__name__)

# Reading a megabyte takes up to a second, and fifty times its size in memory: the event loop
# does not wait for it, and no more than two are read at once, large replies among them.
MAX_INLINE_BODY_BYTES = 64 << 10
THREADS = 2
CLIENT_CLOSED_REQUEST = 499  # Nobody sees it but the log.


class Gateway:
    """Transcodes HTTP/JSON to the RPCs of one upstream."""

    def __init__(
        self,
        settings: GatewaySettings,
        tracer: Tracer | None = None,
        dialect: Dialect = FIREWORKS,
    ) -> None:
        self.metrics = GatewayMetrics()
        self.dialect = dialect
        self._settings = settings
        self._untraced = Untraced()
        self._tracer = tracer or self._untraced
        self._upstream = Upstream(settings, self.metrics.follow, dialect)
        if self._upstream.certificate is not None:
            self.metrics.certificates.add("upstream_cert", self._upstream.certificate)
        self.drain = DrainState()
        self._pages = Pages(self._upstream, self.drain)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="body")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            exchange = Exchange(scope, receive, send, self.dialect)
            with self.metrics.watch(exchange):
                await self._serve(exchange)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._upstream.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._upstream.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, exchange: Exchange) -> None:
        # Probes would otherwise fill the traces.
        tracer = self._untraced if exchange.path in PATHS else self._tracer
        span = tracer.begin(exchange.method, exchange.headers, exchange.began)
        exchange.trace = span.carrier
        try:
            with self.drain.tracked():
                await self._answer_or_refuse(exchange)
        except DisconnectedError:
            exchange.status = CLIENT_CLOSED_REQUEST
            exchange.disconnected = True
        except asyncio.CancelledError:
            # The server stops and has waited long enough. A stream is left unfinished.
            await self._give_up(exchange, shutting_down())
        finally:
            span.end(span_name(exchange), span_attributes(exchange), fault(exchange))
            log_access(exchange, span.trace_id)

    async def _answer_or_refuse(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ApiError as error:
            await exchange.refuse(error)
        except InvalidError as error:
            await exchange.refuse(bad_request(str(error), param=error.param))
        except DisconnectedError:
            raise
        except Exception:
            id_ = exchange.request_id
            logger.exception("request %s failed", id_, extra=fields(request_id=id_))
            await self._give_up(exchange, internal())

    async def _give_up(self, exchange: Exchange, error: ApiError) -> None:
        """Tells of the error, or leaves unfinished what has begun."""
        if exchange.status is None:
            await exchange.refuse(error)
        else:
            exchange.status = error.status

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.path in PATHS:
            exchange.route = exchange.path
            await self._pages.answer(exchange)
            return
        self.drain.check_accepting()
        route, variables = self._upstream.table.find(exchange.method, exchange.path)
        exchange.route = route.path
        # What was read is not kept while the call runs, only the request made of it.
        request = await self._request(exchange, route, variables)
        await exchange.attend(self._call(exchange, route, request).answer())

    async def _request(
        self, exchange: Exchange, route: Route, variables: dict[str, str]
    ) -> Message:
        arguments = route.arguments(exchange.query, variables)
        if not route.has_body:
            return route.operation.decode(arguments)
        exchange.require_json()
        body = await exchange.body(self._settings.max_body_bytes)
        read = partial(_decoded, body, arguments, route)
        if len(body) <= MAX_INLINE_BODY_BYTES:
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    def _call(self, exchange: Exchange, route: Route, request: Message) -> UpstreamCall:
        limit, own = self._settings.request_timeout, exchange.timeout()
        is_own = own is not None and (limit is None or own <= limit)
        return UpstreamCall(
            exchange=exchange,
            dialect=self.dialect,
            channel=self._upstream.channel,
            method=route.operation.choose(request),
            request=request,
            timeout=own if is_own else limit,
            own_deadline=is_own,
            keepalive=self._settings.sse_keepalive,
            threads=self._threads,
        )


def _decoded(body: bytes, arguments: dict[str, Any], route: Route) -> Message:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise bad_request("Input should be a valid dictionary")
    return route.operation.decode(value | arguments)
