"""Uvicorn, with a shutdown that refuses requests rather than connections."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn

from rapport.common.process import SupervisorLink
from rapport.common.settings import warn_of_plain_keys
from rapport.common.tls import Reloaded, TlsFiles
from rapport.gateway.app import Gateway
from rapport.gateway.config import GatewaySettings
from rapport.gateway.http1.connection import Connection, Delivery
from rapport.gateway.http1.fd_limit import most_connections
from rapport.gateway.tls import server_context

logger = logging.getLogger("gateway")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
POLL_S = 0.05
# Seconds beyond the grace for what the service says of the streams that it then ends itself.
LAST_WORDS_S = 1.0
KEEP_ALIVE_S = 75


class GatewayServer(uvicorn.Server):
    """Says where it listens, drains at a signal and ends at once at a second one."""

    def __init__(self, app: Gateway, settings: GatewaySettings) -> None:
        """Raises CertificateError if the certificate of REST or its key cannot be used."""
        super().__init__(uvicorn_config(app, settings))
        self.status = 0
        """The exit status: 128 and the signal if a second one cut the drain short."""
        self._supervisor = SupervisorLink()
        self._drain_state = app.drain
        self._drain_delay = settings.drain_delay
        self._grace = settings.shutdown_grace

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or []:
            logger.info("REST on %s", _url(listening, tls=self.config.is_ssl))
        self._supervisor.report_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        await super().shutdown(sockets)
        if self.force_exit:
            # Uvicorn leaves the application out when it is in a hurry.
            await self.lifespan.shutdown()

    async def _drain(self) -> None:
        """Listens on, to refuse what comes, until those inside have their answers.

        Under `rapport serve` that is until the service has ended, too.
        """
        self._drain_state.health_fails = True
        await self._wait(self._drain_delay)
        self._drain_state.refuses_requests = True
        for connection in tuple(self.server_state.connections):
            connection.shutdown()  # at once if it is idle, else behind its answer
        await self._wait(self._grace, lambda: not self._drain_state.in_flight)
        await self._wait(math.inf, lambda: self._supervisor.may_exit)

    async def _wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not self.force_exit:
            if until():
                return
            await asyncio.sleep(POLL_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del frame
        if self.should_exit:
            self.force_exit, self.status = True, 128 + sig
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Unlike uvicorn's it does not raise them again in the end: a stop is no failure.
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def uvicorn_config(app: Gateway, settings: GatewaySettings) -> uvicorn.Config:
    """Raises CertificateError if the certificate of REST or its key cannot be used."""
    return uvicorn.Config(
        app,
        # Uvicorn makes one for each connection, and asks for nothing else.
        http=partial(  # type: ignore[arg-type]
            Connection,
            delivery=Delivery(settings.reader_timeout, app.metrics.stuck_readers),
            read_timeout=settings.read_timeout,
            dialect=app.dialect,
        ),
        ssl_context_factory=_context_factory(app, settings),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=most_connections(),
        timeout_graceful_shutdown=math.ceil(min(settings.shutdown_grace, LAST_WORDS_S)),
    )


def _context_factory(
    app: Gateway, settings: GatewaySettings
) -> Callable[..., ssl.SSLContext] | None:
    if settings.http_tls is None:
        warn_of_plain_keys(settings, "http_host", settings.http_host)
        return None
    certificate = Reloaded(settings.http_tls, TlsFiles.context)
    app.metrics.certificates.add("http_tls_cert", certificate)
    context = server_context(certificate)
    return lambda *_: context


def _url(listening: socket.socket, *, tls: bool) -> str:
    host, port = listening.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
