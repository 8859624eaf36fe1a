"""What all connections of a server have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import Counter

from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import ApiError
from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.http1.parser import origin_of
from rapport.gateway.http1.responses import Expose, refusal
from rapport.gateway.http1.turns import Turns

if TYPE_CHECKING:
    from rapport.gateway.http1.connection import Connection

Handler = Callable[[Exchange], Awaitable[None]]
"""Answers a request. It is cancelled when the client leaves or the server has to end."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Settings, and what connections share. Times are in seconds."""

    handler: Handler
    dialect: Dialect
    expose_to: Callable[[str], Expose]
    """Says for the value of an Origin header what its pages may read."""
    is_secure: bool
    max_connections: int
    read_timeout: float
    """For a head, and for a body besides what its size earns."""
    body_timeout: float
    reader_timeout: float
    keepalive_timeout: float
    stuck_readers: Counter
    turns: Turns = field(default_factory=Turns)
    open: set[Connection] = field(default_factory=set)

    @property
    def scheme(self) -> str:
        """Of the URLs by which clients call."""
        return "https" if self.is_secure else "http"

    def refusal(self, error: ApiError, head: bytes) -> bytes:
        """The whole answer to a head that is no request, of which a part may be missing."""
        return refusal(error, self.dialect, self.expose_to(origin_of(head)))
