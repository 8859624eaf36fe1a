"""Metrics over HTTP, on a port of their own and in a thread beside the process's work."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingTCPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from rapport.common.settings import Settings

logger = logging.getLogger("rapport.metrics")

# Scrapes that are served at once; who holds a connection holds up no more than that.
MOST = 8
# Seconds that a client may take for each piece of its request or of the answer.
REQUEST_TIMEOUT_S = 5.0
# Seconds that closing may take.
POLL = 0.1


class Endpoint(ThreadingTCPServer):
    """Answers every GET with the metrics."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        """Raises OSError if it cannot listen there."""
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        self._room = threading.BoundedSemaphore(MOST)
        handler: Any = type(
            "Handler", (MetricsHandler,), {"registry": registry, "timeout": REQUEST_TIMEOUT_S}
        )
        super().__init__((str(address[0]), port), handler)

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}/metrics" if ":" in host else f"http://{host}:{port}/metrics"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that leaves in the middle is nothing to write a traceback about."""
        del request
        logger.debug("a scrape by %s failed: %s", client_address, sys.exception())


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
            target=endpoint.serve_forever, args=(POLL,), name="metrics", daemon=True
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
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        reason = error.strerror or str(error)
        logger.error("no metrics are served, %s cannot be listened on: %s", where, reason)  # noqa: TRY400 - the line is for users
        return None
