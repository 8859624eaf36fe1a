"""The gateway's settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, PositiveFloat, model_validator
from pydantic_settings import SettingsConfigDict

from rapport.common.addresses import bracketed
from rapport.common.settings import Port, Settings, check_bind, is_loopback, split_list
from rapport.common.tls import TlsFiles, check_pair, server_files
from rapport.gateway.http1.hosts import AllowedHosts
from rapport.gateway.upstream.target import is_local

Size = Annotated[ByteSize, Field(gt=0, lt=1 << 31)]


# A scheme, a host and perhaps a port, or any of them.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s*]+", re.IGNORECASE)


class GatewaySettings(Settings):
    """Serves REST, JSON and server-sent events, in front of a gRPC service."""

    model_config = SettingsConfigDict(cli_prog_name="rapport gateway")

    http_host: str = "127.0.0.1"
    """address to serve REST on"""
    http_port: Port = 8080
    """port to serve REST on; 0 picks one"""
    gateway_metrics_port: Port = 9465
    """port to serve the gateway's metrics on; 0 picks one"""
    upstream: str | None = None
    """gRPC target of the service, instead of host and port"""
    descriptor_set: Path | None = None
    """file with a FileDescriptorSet of the service; without it, reflection is used"""
    http_tls_cert: Path | None = None
    """certificate chain (PEM) to serve REST over TLS with; read again when it changes"""
    http_tls_key: Path | None = None
    """private key (PEM) of http_tls_cert"""
    http_client_ca: Path | None = None
    """CA certificates (PEM): callers of REST must show a certificate of one of them"""
    upstream_tls: bool = False
    """reach the service over TLS; implied by the other upstream_* settings of TLS"""
    upstream_ca: Path | None = None
    """CA certificates (PEM) that sign the service's certificate; without it, public ones"""
    upstream_cert: Path | None = None
    """certificate chain (PEM) to show to the service"""
    upstream_key: Path | None = None
    """private key (PEM) of upstream_cert"""
    upstream_server_name: str | None = None
    """name in the service's certificate, where it is not the target's"""
    allow_plain_upstream: bool = False
    """send callers' keys without TLS to a service on another machine"""
    max_body_bytes: Size = ByteSize(4 << 20)
    """largest body of a request, such as 4MiB"""
    max_body_bytes_total: Size = ByteSize(48 << 20)
    """bodies of all requests together beyond 16 KiB of each; at least max_body_bytes"""
    body_timeout: PositiveFloat = 120
    """seconds for a body to come, however large it is"""
    keepalive_timeout: PositiveFloat = 120
    """seconds that a connection may be idle between requests; clients should be the first to end"""
    allowed_hosts: str = ""
    """names that callers may use in Host, separated by commas; none: any, but on a loopback address
    only localhost, addresses and names without a dot"""
    http_cors_origins: str = ""
    """origins whose pages may call from a browser, such as https://chat.example.org, separated by
    commas; *: all; none: pages of no other origin"""
    max_response_bytes: Size = ByteSize(64 << 20)
    """largest message from the service"""
    unknown_fields: Literal["error", "ignore"] = "error"
    """what to do with request fields that the service does not know"""
    request_timeout: PositiveFloat | None = None
    """seconds that a call may take; without it, no limit"""
    sse_keepalive: PositiveFloat | None = None
    """seconds of silence in a stream after which a comment is sent; without it, none is sent"""

    @property
    def target(self) -> str:
        """The gRPC target of the service."""
        if self.grpc_socket is not None and not self.has_own_upstream:
            return f"unix:{self.grpc_socket}"
        return self.upstream or f"{bracketed(self.grpc_host)}:{self.grpc_port}"

    @property
    def hosts(self) -> AllowedHosts:
        """The hosts that callers may ask for. Those of a loopback address are checked anyway."""
        names = split_list(self.allowed_hosts)
        return AllowedHosts(names, any_name=not (names or is_loopback(self.http_host)))

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose pages may call."""
        return split_list(self.http_cors_origins)

    @property
    def has_own_upstream(self) -> bool:
        """Whether the service is reached otherwise than where it listens by these settings."""
        return self.upstream is not None or self.upstream_files is not None

    @property
    def http_tls(self) -> TlsFiles | None:
        """The files of TLS for REST, if it is wanted."""
        return server_files("http", self.http_tls_cert, self.http_tls_key, self.http_client_ca)

    @property
    def upstream_files(self) -> TlsFiles | None:
        """The files of TLS towards the service, if it is wanted."""
        check_pair("upstream_cert", self.upstream_cert, "upstream_key", self.upstream_key)
        files = TlsFiles(self.upstream_cert, self.upstream_key, self.upstream_ca)
        wanted = self.upstream_tls or self.upstream_server_name or files != TlsFiles()
        return files if wanted else None

    def reaches_upstream_privately(self) -> bool:
        """Whether nobody on the way to the service can read what is sent."""
        return self.upstream_files is not None or is_local(self.target)

    @model_validator(mode="after")
    def _origins_are_origins(self) -> Self:
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"http_cors_origins: {origin} is not like https://example.org")
        return self

    @model_validator(mode="after")
    def _keys_stay_private(self) -> Self:
        if not (self.allow_plain_upstream or self.reaches_upstream_privately()):
            raise ValueError(
                f"the upstream {self.target} would get callers' keys without TLS: set upstream_ca "
                "or upstream_tls, use a loopback address or a Unix socket, or set "
                "allow_plain_upstream"
            )
        return self

    @model_validator(mode="after")
    def _http_is_guarded(self) -> Self:
        _ = self.http_tls, self.upstream_files
        guarded = bool(self.asks_for_key or self.http_client_ca or self.allow_public_bind)
        check_bind("http_host", self.http_host, guarded=guarded)
        return self
