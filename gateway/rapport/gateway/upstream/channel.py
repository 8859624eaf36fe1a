"""Channels to the service: their limits and their credentials."""

from __future__ import annotations

import logging

import grpc

from rapport.common.tls import Reloaded
from rapport.gateway.config import GatewaySettings
from rapport.gateway.tls import channel_credentials
from rapport.gateway.upstream.target import is_socket

logger = logging.getLogger(__name__)

MAX_METADATA_BYTES = 128 << 10


class Channels:
    """Opens channels to the service with the current certificates."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Reads the certificates.

        Raises:
            CertificateError: they cannot be used.
        """
        self._target = settings.target
        self._options = _options(settings.max_response_bytes)
        if settings.upstream_server_name:
            self._options.append(("grpc.ssl_target_name_override", settings.upstream_server_name))
        files = settings.upstream_files
        self.certificate = Reloaded(files, channel_credentials) if files else None
        self._used: grpc.ChannelCredentials | None = None
        if settings.asks_for_key and not (files or is_socket(self._target)):
            logger.warning(
                "the upstream %s is reached without TLS: a program that takes its port while the "
                "service is away gets callers' keys; set grpc_socket or upstream_ca",
                self._target,
            )

    @property
    def is_secure(self) -> bool:
        return self.certificate is not None

    def renew(self) -> bool:
        """Reads changed certificates. Returns whether the latest channel has old ones."""
        if self.certificate is None:
            return False
        self.certificate.renew()
        return self.certificate.value is not self._used

    def open(self) -> grpc.aio.Channel:
        """Opens a channel, for the running event loop."""
        if self.certificate is None:
            return grpc.aio.insecure_channel(self._target, self._options)
        self._used = self.certificate.value
        return grpc.aio.secure_channel(self._target, self._used, self._options)


def _options(max_response_bytes: int) -> list[tuple[str, int | str]]:
    return [
        ("grpc.max_receive_message_length", max_response_bytes),
        # The details of errors come in trailers.
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES + MAX_METADATA_BYTES // 4),
        # With BDP probing, gRPC would read megabytes ahead of a client that does not read.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Reconnects to a restarted service within two seconds.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # The upstream is on the same host or network, so no proxy of the environment is used.
        ("grpc.enable_http_proxy", 0),
    ]
