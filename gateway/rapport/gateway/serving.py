"""The application on a server, as the settings say."""

from __future__ import annotations

import asyncio
import ssl
import sys

if sys.platform != "win32":
    import uvloop

from rapport.common.fd_limit import max_connections
from rapport.common.settings import warn_of_plain_keys
from rapport.common.tls import Reloaded, TlsFiles
from rapport.gateway.app import Gateway
from rapport.gateway.config import GatewaySettings
from rapport.gateway.http1.connection_options import ConnectionOptions
from rapport.gateway.http1.server import Server
from rapport.gateway.tls import server_context


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The faster loop, where there is one."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def server_of(app: Gateway, settings: GatewaySettings) -> Server:
    """Raises CertificateError if the certificate of REST or its key cannot be used."""
    options = ConnectionOptions(
        handler=app.handle,
        dialect=app.dialect,
        expose_to=app.cross_origin.expose,
        is_secure=settings.http_tls is not None,
        max_connections=max_connections(),
        read_timeout=settings.read_timeout,
        body_timeout=settings.body_timeout,
        reader_timeout=settings.reader_timeout,
        keepalive_timeout=settings.keepalive_timeout,
        stuck_readers=app.metrics.stuck_readers,
    )
    return Server(
        options,
        app.drain,
        tls=_tls_context(app, settings),
        drain_delay=settings.drain_delay,
        grace=settings.shutdown_grace,
    )


def _tls_context(app: Gateway, settings: GatewaySettings) -> ssl.SSLContext | None:
    if settings.http_tls is None:
        warn_of_plain_keys(settings, "http_host", settings.http_host)
        return None
    certificate = Reloaded(settings.http_tls, TlsFiles.context)
    app.metrics.certificates.add("http_tls_cert", certificate)
    return server_context(certificate)
