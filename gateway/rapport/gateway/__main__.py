"""`python -m rapport.gateway`: the gateway alone."""

from __future__ import annotations

import os

# gRPC's core would log a second time what it also raises.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence

from rapport.common.addresses import bracketed, listen
from rapport.common.metrics.endpoint import exposed
from rapport.common.process import show_stacks
from rapport.common.settings import SettingsError, load
from rapport.common.telemetry.logs import set_up
from rapport.common.telemetry.traces import Tracer, TracesError, tracing
from rapport.common.tls import CertificateError
from rapport.gateway.app import Gateway
from rapport.gateway.config import GatewaySettings
from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.serving import new_event_loop, server_of
from rapport.gateway.upstream.upstream import DescriptorSetError

logger = logging.getLogger("gateway")

MAX_UNSENT_BYTES = 64 << 10


class AddressError(Exception):
    """The address cannot be listened on; the text says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until a signal. Returns the exit status."""
    show_stacks()
    try:
        settings = load(GatewaySettings, sys.argv[1:] if argv is None else argv)
    except SettingsError as error:
        sys.stderr.write(f"rapport gateway: {error}\n")
        return 2
    set_up(settings)
    try:
        with tracing("rapport-gateway", settings) as tracer:
            return serve(settings, tracer)
    except (AddressError, CertificateError, DescriptorSetError, TracesError) as error:
        logger.error("%s", error)  # noqa: TRY400 - the line is for users
        return 1


def serve(settings: GatewaySettings, tracer: Tracer) -> int:
    """Serves until a signal. Returns the exit status.

    Raises:
        AddressError: the address cannot be listened on.
        CertificateError: a certificate or its key cannot be used.
        DescriptorSetError: the settings name a file that is none.
    """
    app = Gateway(settings, FIREWORKS, tracer)
    server = server_of(app, settings)
    listening = _listen(settings.http_host, settings.http_port)

    async def serve_until_signal() -> None:
        server.handle_signals()
        async with app.running():
            await server.serve(*listening)

    with (
        exposed(app.metrics.registry, settings, settings.gateway_metrics_port),
        asyncio.Runner(loop_factory=new_event_loop) as runner,
    ):
        runner.run(serve_until_signal())
    return server.status


def _listen(host: str, port: int) -> list[socket.socket]:
    try:
        listening = listen(host, port)
    except OSError as error:
        address = f"{bracketed(host)}:{port}"
        raise AddressError(f"cannot listen on {address}: {_reason(error)}") from error
    for each in listening:
        hold_back(each)
    return listening


def hold_back(listening: socket.socket) -> None:
    """Bounds what the kernel takes for clients that do not read: it would take megabytes."""
    # Connections inherit it. Unlike a send buffer of that size, it slows no distant client.
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)


def _reason(error: OSError) -> str:
    # An error of getaddrinfo has a number of its own, and a text.
    known = error.errno is not None and error.errno > 0
    return os.strerror(error.errno or 0) if known else str(error.strerror)


if __name__ == "__main__":
    sys.exit(main())
