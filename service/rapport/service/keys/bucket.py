"""A token bucket: a rate limit of an amount per minute."""

from __future__ import annotations

MINUTE_S = 60.0
# The rounding error, in seconds, that sums of times may have.
ROUNDING_S = 1e-6


class Bucket:
    """A budget that refills at `per_minute`, and holds one minute's worth at most.

    It may be overdrawn; nothing is left then until the debt has been refilled. The only state is
    the time at which the bucket is full again. Times are in seconds of one monotonic clock.
    Source: the generic cell rate algorithm, ITU-T I.371.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._full_at = 0.0

    def is_full(self, now: float) -> bool:
        return self._full_at <= now

    def remaining(self, now: float) -> float:
        """The amount left; negative for a debt."""
        return self.per_minute * (1 - max(0.0, self._full_at - now) / MINUTE_S)

    def take(self, amount: float, now: float) -> None:
        self._full_at = max(self._full_at, now) + amount * MINUTE_S / self.per_minute

    def give_back(self, amount: float) -> None:
        """Undoes an earlier `take`."""
        self._full_at -= amount * MINUTE_S / self.per_minute

    def wait_s(self, now: float) -> float:
        """Seconds until at least one is left."""
        wait = self._full_at - now - MINUTE_S + MINUTE_S / self.per_minute
        return wait if wait > ROUNDING_S else 0.0
