"""A bound on the memory of whole answers that are sent and not read."""

from __future__ import annotations

from collections import Counter

from rapport.service.engine.errors import Bound, OverloadedError

# Of all callers together. One caller may hold half of it, and more only with a single answer.
MAX_UNREAD_BYTES = 256 << 20
RETRY_S = 1.0


class UnreadAnswers:
    """Counts the bytes that gRPC keeps for callers until they read them or hang up.

    A caller may hold as much as is free, so that it always leaves room for another.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def hold(self, caller: str, size: int) -> None:
        """Counts an answer that is about to be sent.

        Raises:
            OverloadedError: the caller holds too much already.
        """
        held = self._held[caller]
        if held and held + size > MAX_UNREAD_BYTES - self._held.total():
            text = "too much of earlier answers is not read"
            raise OverloadedError(text, Bound.RPCS, RETRY_S)
        self._held[caller] = held + size

    def release(self, caller: str, size: int) -> None:
        """Forgets an answer that was read, or whose caller hung up."""
        self._held[caller] -= size
        if not self._held[caller]:
            del self._held[caller]
