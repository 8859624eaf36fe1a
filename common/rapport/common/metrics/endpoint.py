"""Metrics over HTTP, on a port of their own and in a thread beside the process's work."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import ThreadingTCPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from rapport.common.addresses import bracketed
from rapport.common.settings import Settings

logger = logging.getLogger("rapport.metrics")

MAX_CONNECTIONS = 32
# For each piece of a request or an answer, and for all of a connection.
IO_TIMEOUT_S, CONNECTION_TIMEOUT_S = 5.0, 10.0
# How often connections are looked at for their time, and how long closing may take.
POLL_S = 0.1


class Endpoint(ThreadingTCPServer):
    """Answers every GET with the metrics.

    A connection that is slow costs nobody else a scrape: where there are too many, the one that
    has waited longest for its request is closed.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        """Raises OSError if it cannot listen there."""
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._deadlines: OrderedDict[Any, float] = OrderedDict()
        """Of the open connections, the one to be closed first at the beginning."""
        handler: Any = type("Handler", (_Handler,), {"registry": registry})
        super().__init__((str(address[0]), port), handler)

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"http://{bracketed(host)}:{port}/metrics"

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self._close_first()
            self._room.acquire()  # its thread gives up the place at once
        with self._lock:
            self._deadlines[request] = time.monotonic() + CONNECTION_TIMEOUT_S
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def begin_answer(self, request: Any) -> None:
        """Puts a connection that has sent its request behind those that have not."""
        with self._lock:
            if request in self._deadlines:
                self._deadlines.move_to_end(request)

    def service_actions(self) -> None:
        """Closes connections that are over their time. Called in each round of serving."""
        now = time.monotonic()
        with self._lock:
            for request, deadline in self._deadlines.items():
                if deadline < now:
                    _disconnect(request)

    def _close_first(self) -> None:
        with self._lock:
            if self._deadlines:
                request, _ = self._deadlines.popitem(last=False)
                _disconnect(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that leaves in the middle is nothing to write a traceback about."""
        del request
        logger.debug("a scrape by %s failed: %s", client_address, sys.exception())


class _Handler(MetricsHandler):
    timeout = IO_TIMEOUT_S
    server: Endpoint

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        self.server.begin_answer(self.connection)
        super().do_GET()


def _disconnect(connection: socket.socket) -> None:
    """Ends what the connection's thread waits for; it closes the connection."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def exposed(registry: CollectorRegistry, settings: Settings, port: int) -> Iterator[None]:
    """Serves the metrics while the `with` lasts, if the settings want it, and logs where.

    An address that cannot be listened on is an error in the log: callers matter more.
    """
    endpoint = opened(registry, settings.metrics_host, port) if settings.metrics else None
    if endpoint is None:
        yield
        return
    with endpoint:
        logger.info("metrics on %s", endpoint.url)
        serving = threading.Thread(
            target=endpoint.serve_forever, args=(POLL_S,), name="metrics", daemon=True
        )
        serving.start()
        try:
            yield
        finally:
            endpoint.shutdown()
            serving.join()


def opened(registry: CollectorRegistry, host: str, port: int) -> Endpoint | None:
    """Listens, if it can; port 0 picks one."""
    try:
        return Endpoint(registry, host, port)
    except OSError as error:
        where, reason = f"{bracketed(host)}:{port}", error.strerror or str(error)
        logger.error("no metrics are served, %s cannot be listened on: %s", where, reason)  # noqa: TRY400 - the line is for users
        return None
