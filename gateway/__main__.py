"""`python -m gateway`: the gateway alone."""

from __future__ import annotations

import os

# gRPC's core would log a second time what it also raises.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import logging
import math
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from gateway.app import Gateway
from gateway.config import GatewaySettings
from gateway.connection import Connection, Delivery
from gateway.files import most_connections
from gateway.upstream import DescriptorSetError
from rapport_settings.base import SettingsError, load

logger = logging.getLogger("gateway")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
KEEP_ALIVE_S = 75
UNSENT_BYTES = 64 << 10


class Server(uvicorn.Server):
    """Uvicorn that says where it listens, and whose second signal ends it at once."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or []:
            logger.info("REST on %s", _url(listening))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # Uvicorn leaves the application out when it is in a hurry.
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        self.force_exit = self.should_exit
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


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until a signal. Returns the exit status."""
    try:
        settings = load(GatewaySettings, sys.argv[1:] if argv is None else argv)
    except SettingsError as error:
        return _fail(str(error), status=2)
    _log(settings.log_level)
    try:
        app = Gateway(settings)
        listening = _listen(settings.http_host, settings.http_port)
    except DescriptorSetError as error:
        return _fail(str(error), status=1)
    except OSError as error:
        where = f"{settings.http_host}:{settings.http_port}"
        return _fail(f"cannot listen on {where}: {_reason(error)}", status=1)
    server = Server(uvicorn_config(app, settings))
    server.run([listening])
    return int(server.force_exit)


def uvicorn_config(app: Gateway, settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=cast("Any", partial(Connection, delivery=Delivery(settings.reader_timeout))),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=most_connections(),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_grace),
    )


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.create_server((str(address[0]), port), family=family)
    hold_back(listening)
    return listening


def hold_back(listening: socket.socket) -> None:
    """Bounds what the kernel takes for clients that do not read: it would take megabytes."""
    # Connections inherit it. Unlike a send buffer of that size, it slows no distant client.
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _reason(error: OSError) -> str:
    # An error of getaddrinfo has a number of its own, and a text.
    known = error.errno is not None and error.errno > 0
    return os.strerror(error.errno or 0) if known else str(error.strerror)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log(level: str) -> None:
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    uvicorn_logger = logging.getLogger("uvicorn.error")
    uvicorn_logger.setLevel(logging.WARNING)
    # That is how a failed stream is aborted, not a fault.
    unfinished = "ASGI callable returned without completing response."
    uvicorn_logger.addFilter(lambda record: record.getMessage() != unfinished)


def _fail(problem: str, *, status: int) -> int:
    sys.stderr.write(f"rapport gateway: {problem}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
