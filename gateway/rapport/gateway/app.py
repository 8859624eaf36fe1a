"""The application: requests in, routes found, answers out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from google.protobuf.message import Message

from rapport.common.fair_threads import FairThreads
from rapport.common.telemetry.formatters import fields
from rapport.common.telemetry.traces import Tracer, Untraced
from rapport.gateway.access_log import fault, log_access, span_attributes, span_name
from rapport.gateway.callers import Callers
from rapport.gateway.config import GatewaySettings
from rapport.gateway.cors import CrossOrigin
from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.drain import DrainState, shutting_down
from rapport.gateway.errors import ApiError, bad_request, internal
from rapport.gateway.http1.body_budget import BodyBudget
from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.metrics import GatewayMetrics
from rapport.gateway.pages import PATHS, Pages
from rapport.gateway.transcoding.call import UpstreamCall
from rapport.gateway.transcoding.codec.violations import InvalidError
from rapport.gateway.transcoding.json_body import parse_body
from rapport.gateway.transcoding.routes import Route
from rapport.gateway.upstream.upstream import Upstream

logger = logging.getLogger(__name__)

# Reading a megabyte takes up to a second, and fifty times its size in memory: the event loop
# does not wait for it, and no more than two are read at once, large replies among them.
MAX_INLINE_BODY_BYTES = 16 << 10
THREADS = 2
CLIENT_CLOSED_REQUEST = 499  # Nobody sees it but the log.


class Gateway:
    """Transcodes HTTP/JSON to the RPCs of one upstream."""

    def __init__(
        self, settings: GatewaySettings, dialect: Dialect, tracer: Tracer | None = None
    ) -> None:
        """Raises DescriptorSetError or CertificateError if a file that is set is no such thing."""
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
        self._hosts = settings.hosts
        self.cross_origin = CrossOrigin(settings.origins)
        self._bodies = BodyBudget(max(settings.max_body_bytes_total, settings.max_body_bytes))
        self._threads = FairThreads(THREADS, "body")
        self._callers = Callers()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps a connection to the upstream while the `with` lasts."""
        self._upstream.start()
        try:
            yield
        finally:
            await self._upstream.close()
            self._threads.close()

    async def handle(self, exchange: Exchange) -> None:
        """Answers or refuses a request, counts it and logs it."""
        with self.metrics.watch(exchange):
            await self._serve(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        # Probes would otherwise fill the traces.
        tracer = self._untraced if exchange.path in PATHS else self._tracer
        span = tracer.begin(exchange.method, exchange.headers, exchange.began)
        exchange.trace = span.carrier
        try:
            with self.drain.tracked():
                await self._answer_or_refuse(exchange)
        except asyncio.CancelledError as error:
            _drop_tracebacks(error)
            await self._end_early(exchange)
        finally:
            span.end(span_name(exchange), span_attributes(exchange), fault(exchange))
            log_access(exchange, span.trace_id)

    async def _end_early(self, exchange: Exchange) -> None:
        """The client has left, or the server stops and has waited long enough."""
        if exchange.disconnected:
            exchange.status = CLIENT_CLOSED_REQUEST
        else:
            await self._give_up(exchange, shutting_down())

    async def _answer_or_refuse(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ApiError as error:
            _drop_tracebacks(error)
            await exchange.refuse(error)
        except InvalidError as error:
            _drop_tracebacks(error)
            await exchange.refuse(bad_request(str(error), param=error.param))
        except Exception as error:
            id_ = exchange.request_id
            logger.exception("request %s failed", id_, extra=fields(request_id=id_))
            _drop_tracebacks(error)
            await self._give_up(exchange, internal())

    async def _give_up(self, exchange: Exchange, error: ApiError) -> None:
        """Answers with the error, or leaves unfinished what has begun."""
        if exchange.status is None:
            await exchange.refuse(error)
        else:
            exchange.status = error.status

    async def _answer(self, exchange: Exchange) -> None:
        self._hosts.check(exchange.request.authority)
        if await self.cross_origin.answer_preflight(exchange):
            return
        if exchange.path in PATHS:
            exchange.route = exchange.path
            await self._pages.answer(exchange)
            return
        self.drain.check_accepting()
        exchange.check_headers()
        route, variables = self._upstream.table.find(exchange.method, exchange.path)
        exchange.route = route.path
        # What was read is not kept while the call runs, only the request made of it.
        request = await self._request(exchange, route, variables)
        await self._call(exchange, route, request).answer()
        self._callers.accept(exchange)

    async def _request(
        self, exchange: Exchange, route: Route, variables: dict[str, str]
    ) -> Message:
        arguments = route.arguments(exchange.query, variables)
        if not route.has_body:
            return route.operation.decode(arguments)
        exchange.require_json()
        with self._bodies.hold(exchange.refuse_body) as held:
            limit = self._settings.max_body_bytes
            body = await exchange.body(limit, held)
            if exchange.is_compressed:
                # A few bytes may be as many as the limit allows.
                decompress = partial(exchange.decompressed, body, limit)
                body = await self._threads.run(self._callers.name(exchange), decompress)
                held.expand(len(body))
            read = partial(_decoded, body, arguments, route)
            if len(body) <= MAX_INLINE_BODY_BYTES:
                return read()
            return await self._threads.run(self._callers.name(exchange), read)

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
            render=partial(self._render, exchange),
        )

    async def _render(self, exchange: Exchange, render: Callable[[], bytes]) -> bytes:
        """Does in a thread what the service's answer takes, which has accepted the credentials."""
        self._callers.accept(exchange)
        return await self._threads.run(self._callers.name(exchange), render)


def _drop_tracebacks(error: BaseException) -> None:
    """Lets go of what the request has sent.

    The frames of a traceback have it, and often the error as well: such a ring stays in memory
    until Python looks for garbage, which may be many large requests later.
    """
    chained: BaseException | None = error
    while chained is not None:
        chained.__traceback__ = None
        chained = chained.__cause__ or chained.__context__


def _decoded(body: bytes, arguments: dict[str, Any], route: Route) -> Message:
    return route.operation.decode(parse_body(body) | arguments)
