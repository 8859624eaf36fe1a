"""Whether requests are accepted, and how many are in flight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rapport.gateway.errors import ApiError, closing, unavailable


class DrainState:
    """Before a stop health checks fail first, then new requests are refused."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.health_fails = False
        self.refuses_requests = False

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Counts a request while it is answered or refused."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def check_health(self) -> None:
        """Raises ApiError once health checks fail."""
        if self.health_fails or self.refuses_requests:
            raise shutting_down()

    def check_accepting(self) -> None:
        """Raises ApiError once requests are refused."""
        if self.refuses_requests:
            raise shutting_down()


def shutting_down() -> ApiError:
    """A refusal that sends the client to another connection, and so to another server."""
    return closing(unavailable("The server is shutting down"))
