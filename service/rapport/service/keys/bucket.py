"""An amount per minute."""

from __future__ import annotations

MINUTE = 60.0
# Seconds by which sums of times are rounded at the most.
ROUNDING = 1e-6


class Bucket:
    """What may be taken of an amount per minute: all of it at once, then as it comes back.

    More may be taken than there is; nothing is left then until the debt has come back.
    All that is kept is when the bucket is full again. Times are in seconds, of one
    monotonic clock. Source: the generic cell rate algorithm, ITU-T I.371.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._full_at = 0.0

    def is_full(self, now: float) -> bool:
        return self._full_at <= now

    def left(self, now: float) -> float:
        """What may be taken; less than 0 is a debt."""
        return self.per_minute * (1 - max(0.0, self._full_at - now) / MINUTE)

    def take(self, amount: float, now: float) -> None:
        self._full_at = max(self._full_at, now) + amount * MINUTE / self.per_minute

    def wait(self, now: float) -> float:
        """Seconds until at least one is left."""
        wait = self._full_at - now - MINUTE + MINUTE / self.per_minute
        return wait if wait > ROUNDING else 0.0
