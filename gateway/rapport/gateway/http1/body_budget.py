"""A bound on the bodies that are held at once, whoever sends them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rapport.gateway.errors import ApiError, closing, unavailable

# What each body may hold beside the bound: small ones are never refused.
FREE_BYTES = 16 << 10


class HeldBody:
    """The bytes of one body, from its first until it has been read as a message."""

    def __init__(self, budget: BodyBudget, on_refused: Callable[[ApiError], None]) -> None:
        self.on_refused = on_refused
        self._budget = budget
        self.size = 0
        self.is_complete = False
        self.has_given_way = False
        self._began = time.monotonic()

    def add(self, size: int) -> None:
        """Counts bytes that have come. Raises ApiError if this is the body that gives way."""
        self._budget.add(self, size)

    def expand(self, size: int) -> None:
        """Counts bytes that a complete body has more since it was decompressed; as `add`."""
        self.is_complete = False
        self.add(size)
        self.is_complete = True

    @property
    def counted(self) -> int:
        """Bytes that count towards the bound."""
        return max(self.size - FREE_BYTES, 0)

    @property
    def rate(self) -> float:
        """Bytes per second since it began."""
        return self.size / max(time.monotonic() - self._began, 1e-9)


class BodyBudget:
    """When the bound is reached, the slowest of the bodies that are not complete gives way.

    So bodies that never end do not keep others out: whoever wants to push out a body has to send
    the whole bound in the time in which that body arrives.
    """

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes, for all bodies together."""
        self._limit = limit
        self._held: set[HeldBody] = set()
        self._counted = 0

    @contextmanager
    def hold(self, on_refused: Callable[[ApiError], None]) -> Iterator[HeldBody]:
        """A body that is held while the `with` lasts; `on_refused` is called if it gives way."""
        body = HeldBody(self, on_refused)
        try:
            yield body
        finally:
            self._release(body)

    def add(self, body: HeldBody, size: int) -> None:
        """As `HeldBody.add`."""
        if body.has_given_way:  # this piece was read before
            raise _no_room()
        before = body.counted
        body.size += size
        if not body.counted:
            return
        self._held.add(body)
        self._counted += body.counted - before
        while self._counted > self._limit:
            slowest = min(
                (each for each in self._held if not each.is_complete),
                key=lambda each: each.rate,
            )
            self._release(slowest)
            slowest.has_given_way = True
            if slowest is body:
                raise _no_room()
            slowest.on_refused(_no_room())

    def _release(self, body: HeldBody) -> None:
        if body in self._held:
            self._held.remove(body)
            self._counted -= body.counted


def _no_room() -> ApiError:
    return closing(unavailable("The server holds as many bytes of requests as it can take"))
