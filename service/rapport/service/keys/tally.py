"""What one key, or one user of a key, uses of what it may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rapport.service.keys.bucket import Bucket
from rapport.service.keys.limits import Limits

REQUESTS = "requests"
PROMPT = "tokens-prompt"
CACHE_ADJUSTED = "tokens-cache-adjusted-prompt"
GENERATED = "tokens-generated"
# What the tokens of each kind are called to people.
CALLED = {
    REQUESTS: "requests",
    PROMPT: "prompt tokens",
    CACHE_ADJUSTED: "prompt tokens that were not cached",
    GENERATED: "generated tokens",
}

# When a running request ends is not known.
RETRY_CONCURRENT = 1.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be used at once, 0 for no limit, and per minute of each kind that has a limit."""

    concurrent: int
    per_minute: Mapping[str, int]


def of_key(limits: Limits) -> Allowance:
    kinds = {
        REQUESTS: limits.requests_per_minute,
        PROMPT: limits.prompt_tokens_per_minute,
        CACHE_ADJUSTED: limits.cache_adjusted_prompt_tokens_per_minute,
        GENERATED: limits.generated_tokens_per_minute,
    }
    return Allowance(limits.concurrent, _limited(kinds))


def of_user(limits: Limits) -> Allowance:
    return Allowance(limits.user_concurrent, _limited({REQUESTS: limits.user_requests_per_minute}))


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that a request would exceed, and the seconds until it would not."""

    limit: str
    wait: float


class Tally:
    """Counts what is used. Times are those of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.running = 0
        self._concurrent = 0
        self._buckets: dict[str, Bucket] = {}

    def allow(self, allowance: Allowance) -> None:
        """Sets what may be used from now on; what was used stays used."""
        self._concurrent = allowance.concurrent
        for kind, limit in allowance.per_minute.items():
            self._buckets.setdefault(kind, Bucket(limit)).per_minute = limit
        for kind in self._buckets.keys() - allowance.per_minute.keys():
            del self._buckets[kind]

    def excesses(self, now: float) -> Iterator[Excess]:
        """The limits that leave no room for another request."""
        if self._concurrent and self.running >= self._concurrent:
            yield Excess(f"{self._concurrent} requests at once", RETRY_CONCURRENT)
        for kind, bucket in self._buckets.items():
            if wait := bucket.wait(now):
                yield Excess(f"{bucket.per_minute} {CALLED[kind]} per minute", wait)

    def enter(self, now: float) -> None:
        self.running += 1
        self.take(REQUESTS, 1, now)

    def leave(self) -> None:
        self.running -= 1

    def take(self, kind: str, amount: int, now: float) -> None:
        if amount > 0 and (bucket := self._buckets.get(kind)):
            bucket.take(amount, now)

    def left(self, now: float) -> dict[str, tuple[int, float]]:
        """Of each kind that has one, the limit and what is left."""
        return {kind: (each.per_minute, each.left(now)) for kind, each in self._buckets.items()}

    def is_idle(self, now: float) -> bool:
        """Whether it would be the same if it were new."""
        return not self.running and all(each.is_full(now) for each in self._buckets.values())


def _limited(kinds: Mapping[str, int]) -> Mapping[str, int]:
    return {kind: limit for kind, limit in kinds.items() if limit}
