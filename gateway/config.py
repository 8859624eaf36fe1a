"""The gateway's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, PositiveFloat, model_validator
from pydantic_settings import SettingsConfigDict

from rapport_settings.base import Port, Settings, is_loopback

Size = Annotated[ByteSize, Field(gt=0, lt=1 << 31)]


class GatewaySettings(Settings):
    """Serves REST, JSON and server-sent events, in front of a gRPC service."""

    model_config = SettingsConfigDict(cli_prog_name="rapport gateway")

    http_host: str = "127.0.0.1"
    """address to serve REST on"""
    http_port: Port = 8080
    """port to serve REST on; 0 picks one"""
    upstream: str | None = None
    """gRPC target of the service, instead of host and port"""
    descriptor_set: Path | None = None
    """file with a FileDescriptorSet of the service; without, it is asked by reflection"""
    allow_public_bind: bool = False
    """serve an address that others reach, without API keys"""
    max_body_bytes: Size = ByteSize(4 << 20)
    """size that a request's body may have, such as 4MiB"""
    max_response_bytes: Size = ByteSize(64 << 20)
    """size that a message from the service may have"""
    unknown_fields: Literal["error", "ignore"] = "error"
    """what to do with request fields that the service does not know"""
    request_timeout: PositiveFloat | None = None
    """seconds that a call may take; without, as long as it takes"""
    sse_keepalive: PositiveFloat | None = None
    """seconds of silence in a stream after which a comment is sent; without, none is"""

    @property
    def target(self) -> str:
        """The gRPC target of the service."""
        host = f"[{self.grpc_host}]" if ":" in self.grpc_host else self.grpc_host
        return self.upstream or f"{host}:{self.grpc_port}"

    @model_validator(mode="after")
    def _open_only_to_this_machine(self) -> Self:
        if not (self.keys or self.allow_public_bind or is_loopback(self.http_host)):
            raise ValueError(
                f"http_host {self.http_host} is reachable from elsewhere: set api_keys or "
                "allow_public_bind, or use a loopback address"
            )
        return self
