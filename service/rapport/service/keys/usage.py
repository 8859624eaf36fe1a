"""What one API key, or one user of a key, has used of its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rapport.service.keys.bucket import Bucket
from rapport.service.keys.limits import KeyLimits

# The kinds of usage that are limited per minute, as the names of headers have them.
REQUESTS = "requests"
PROMPT = "tokens-prompt"
CACHE_ADJUSTED = "tokens-cache-adjusted-prompt"
GENERATED = "tokens-generated"
# The same for error messages.
UNITS = {
    REQUESTS: "requests",
    PROMPT: "prompt tokens",
    CACHE_ADJUSTED: "prompt tokens that were not cached",
    GENERATED: "generated tokens",
}

# How long to wait for a concurrent request to end: when it will is not known.
CONCURRENT_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """The limits of one key or user.

    Attributes:
        concurrent: requests at once; 0 for no limit.
        per_minute: the amount per minute of each kind that is limited.
    """

    concurrent: int
    per_minute: Mapping[str, int]


def limits_of_key(limits: KeyLimits) -> UsageLimits:
    """The limits that hold for all requests of a key together."""
    per_minute = {
        REQUESTS: limits.requests_per_minute,
        PROMPT: limits.prompt_tokens_per_minute,
        CACHE_ADJUSTED: limits.cache_adjusted_prompt_tokens_per_minute,
        GENERATED: limits.generated_tokens_per_minute,
    }
    return UsageLimits(limits.concurrent, _without_zeros(per_minute))


def limits_of_user(limits: KeyLimits) -> UsageLimits:
    """The limits that hold for each user of a key."""
    per_minute = {REQUESTS: limits.user_requests_per_minute}
    return UsageLimits(limits.user_concurrent, _without_zeros(per_minute))


@dataclass(frozen=True, slots=True)
class ExceededLimit:
    """A limit that another request would exceed, and the seconds until it would not."""

    limit: str
    wait_s: float


class UsageCounter:
    """Counts what is used. Times are in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.running = 0
        self._concurrent = 0
        self._buckets: dict[str, Bucket] = {}

    def set_limits(self, limits: UsageLimits) -> None:
        """Sets the limits from now on; what was used stays used."""
        self._concurrent = limits.concurrent
        for kind, limit in limits.per_minute.items():
            self._buckets.setdefault(kind, Bucket(limit)).per_minute = limit
        for kind in self._buckets.keys() - limits.per_minute.keys():
            del self._buckets[kind]

    def exceeded(self, now: float) -> Iterator[ExceededLimit]:
        """The limits that leave no room for another request."""
        if self._concurrent and self.running >= self._concurrent:
            yield ExceededLimit(f"{self._concurrent} requests at once", CONCURRENT_RETRY_S)
        for kind, bucket in self._buckets.items():
            if wait := bucket.wait_s(now):
                yield ExceededLimit(f"{bucket.per_minute} {UNITS[kind]} per minute", wait)

    def start_request(self, now: float) -> None:
        self.running += 1
        self.take(REQUESTS, 1, now)

    def end_request(self) -> None:
        self.running -= 1

    def give_request_back(self) -> None:
        """Undoes that a request was counted among those of the minute."""
        if bucket := self._buckets.get(REQUESTS):
            bucket.give_back(1)

    def take(self, kind: str, amount: int, now: float) -> None:
        if amount > 0 and (bucket := self._buckets.get(kind)):
            bucket.take(amount, now)

    def remaining(self, now: float) -> dict[str, tuple[int, float]]:
        """For each kind that is limited: the limit and what is left of it."""
        return {
            kind: (bucket.per_minute, bucket.remaining(now))
            for kind, bucket in self._buckets.items()
        }

    def is_idle(self, now: float) -> bool:
        """Whether it is in the same state as a new counter, and so can be dropped."""
        return not self.running and all(bucket.is_full(now) for bucket in self._buckets.values())


def _without_zeros(per_minute: Mapping[str, int]) -> Mapping[str, int]:
    return {kind: limit for kind, limit in per_minute.items() if limit}
