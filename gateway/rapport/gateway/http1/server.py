"""Listens, and at a signal drains: it refuses requests rather than connections."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import ssl
import time
from collections.abc import Callable

from rapport.common.addresses import bracketed
from rapport.common.process import SupervisorLink
from rapport.gateway.drain import DrainState
from rapport.gateway.http1.connection import Connection
from rapport.gateway.http1.connection_options import ConnectionOptions

logger = logging.getLogger("gateway")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 2048
POLL_S = 0.05
# Beyond the grace, for what the service says of the streams that it then ends itself.
LAST_ANSWERS_S = 1.0


class Server:
    """Serves listening sockets until a signal, drains, and ends at once at a second signal."""

    def __init__(
        self,
        options: ConnectionOptions,
        drain: DrainState,
        *,
        tls: ssl.SSLContext | None,
        drain_delay: float,
        grace: float,
    ) -> None:
        """Times are in seconds: from failing health to refusing requests, and for answers."""
        self._options = options
        self._drain_state = drain
        self._tls = tls
        self._drain_delay = drain_delay
        self._grace = grace
        self._supervisor = SupervisorLink()
        self._stopping = asyncio.Event()
        self._is_forced = False
        self.status = 0
        """The exit status: 128 and the signal if a second one cut the drain short."""

    def stop(self) -> None:
        """Drains and ends; at once if it drains already."""
        self._is_forced = self._stopping.is_set()
        self._stopping.set()

    async def serve(self, *listening: socket.socket) -> None:
        """Returns when all connections have ended."""
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(
                lambda: Connection(self._options), sock=each, ssl=self._tls, backlog=BACKLOG
            )
            for each in listening
        ]
        urls = [_url(each, tls=self._tls is not None) for each in listening]
        logger.info("REST on %s", ", ".join(urls))
        self._supervisor.report_ready()
        try:
            await self._stopping.wait()
            await self._drain()
        finally:
            for server in servers:
                server.close()
            await self._end_connections()

    def handle_signals(self) -> None:
        """Has SIGINT and SIGTERM stop the server. For the running event loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._handle, number)

    def _handle(self, number: int) -> None:
        if self._stopping.is_set():
            self.status = 128 + number
        self.stop()

    async def _drain(self) -> None:
        """Listens on, to refuse what comes, until those inside have their answers.

        Under `rapport serve` that is until the service has ended, too.
        """
        self._drain_state.health_fails = True
        await self._wait(self._drain_delay)
        self._drain_state.refuses_requests = True
        for connection in tuple(self._options.open):
            connection.end_with_answer()
        await self._wait(self._grace, lambda: not self._drain_state.in_flight)
        await self._wait(math.inf, lambda: self._supervisor.may_exit)

    async def _end_connections(self) -> None:
        """Gives those that are left a moment, then cancels what they ask for."""
        for connection in tuple(self._options.open):
            connection.end_with_answer()
        await self._wait(min(self._grace, LAST_ANSWERS_S), self._is_empty)
        tasks = [connection.cancel() for connection in tuple(self._options.open)]
        if running := [task for task in tasks if task is not None]:
            await asyncio.wait(running, timeout=LAST_ANSWERS_S)
        await self._wait(LAST_ANSWERS_S, self._is_empty)
        for connection in tuple(self._options.open):
            connection.abort()

    def _is_empty(self) -> bool:
        return not self._options.open

    async def _wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        ends = time.monotonic() + seconds
        while not until() and not self._is_forced and time.monotonic() < ends:  # noqa: ASYNC110 - three things end it
            await asyncio.sleep(POLL_S)


def _url(listening: socket.socket, *, tls: bool) -> str:
    host, port = listening.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{bracketed(host)}:{port}"
