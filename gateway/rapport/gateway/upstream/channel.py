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
    """Opens channels to the service with the certificates of the time."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Raises CertificateError if the certificates cannot be used."""
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
        """Looks at the certificates; whether the channel that was opened last has old ones."""
        if self.certificate is None:
            return False
        self.certificate.renew()
        return self.certificate.value is not self._used

    def open(self) -> grpc.aio.Channel:
        """For the running event loop."""
        if self.certificate is None:
            return grpc.aio.insecure_channel(self._target, self._options)
        self._used = self.certificate.value
        return grpc.aio.secure_channel(self._target, self._used, self._options)


def _options(max_response_bytes: int) -> list[tuple[str, int | str]]:
    return [
        ("grpc.max_receive_message_length", max_response_bytes),
        # Errors come with their details in trailers.
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES + MAX_METADATA_BYTES // 4),
        # With it, gRPC reads megabytes ahead of a client that does not read.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # A service that restarts is found again within two seconds.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # The upstream is a neighbour, whatever proxy the environment names.
        ("grpc.enable_http_proxy", 0),
    ]
