"""What an API has of its own, on top of transcoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from rapport.gateway.errors import ApiError


@dataclass(frozen=True, slots=True)
class StatusException:
    """A gRPC status that has another HTTP status for one reason of its ErrorInfo."""

    code: grpc.StatusCode
    reason: str
    http_status: int
    name: str
    """What the OpenAPI description calls the response."""
    text: str
    """What the description says of it."""


class Dialect(Protocol):
    """The choices of one API. Everything else of a route comes from the protos."""

    forwarded_headers: Sequence[str]
    """Request headers that the service gets as metadata, beside the request id and the trace."""
    returned_prefixes: tuple[str, ...]
    """Prefixes of the response metadata that callers get as headers."""
    status_exceptions: Sequence[StatusException]
    stream_end: bytes
    """The last event of a stream that is complete."""
    stream_text: str
    """What the OpenAPI description says of a stream's events."""
    error_schema: Mapping[str, Any]
    """The JSON Schema of an error's body."""

    def routing(self, request: Message, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Metadata by which a load balancer chooses a replica of the service."""

    def error_body(self, error: ApiError) -> Mapping[str, Any]:
        """The JSON of an error."""
