"""Whether requests are let in, and how many are inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rapport.gateway.errors import ApiError, unavailable


class Doors:
    """Open, then leaving: health checks fail. Then closed: new requests are refused."""

    def __init__(self) -> None:
        self.inside = 0
        self.leaving = False
        self.closed = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Counts a request while it is answered or refused."""
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    def check_health(self) -> None:
        """Raises ApiError once no more requests should come."""
        if self.leaving or self.closed:
            raise shutting_down()

    def check(self) -> None:
        """Raises ApiError once requests are no longer let in."""
        if self.closed:
            raise shutting_down()


def shutting_down() -> ApiError:
    """A refusal that sends the client to another connection, and so to another server."""
    error = unavailable("The server is shutting down")
    error.headers["connection"] = "close"
    return error
