"""Rate limits of API keys and of their users, kept in memory.

The limits hold for this process; several replicas behind a load balancer each grant them in full.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rapport.service.errors import RateLimitedError
from rapport.service.keys.bucket import ROUNDING_S
from rapport.service.keys.key_store import Key
from rapport.service.keys.usage import (
    CACHE_ADJUSTED,
    GENERATED,
    PROMPT,
    UsageCounter,
    UsageLimits,
    limits_of_key,
    limits_of_user,
)

Clock = Callable[[], float]

# Idle counters are looked for once there are more than this.
MIN_SWEEP_SIZE = 1024


class TokenUsage(Protocol):
    """The tokens that a request has used so far."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def cached_tokens(self) -> int:
        """The prompt tokens that were found in the prefix cache."""

    @property
    def completion_tokens(self) -> int: ...

    @property
    def has_first_token(self) -> bool:
        """Whether the first token has come, and `cached_tokens` is final."""


class RateLimiter:
    """Counts the usage of all keys and users that are not idle. For the event loop alone."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Takes a monotonic clock in seconds."""
        self._clock = clock
        self._counters: dict[tuple[str, str], UsageCounter] = {}
        self._sweep_size = MIN_SWEEP_SIZE

    def __len__(self) -> int:
        return len(self._counters)

    def quota(self, key: Key, user: str) -> RequestQuota:
        """The quota of one request, before it is admitted. An empty `user` has no user limits."""
        # Before the counters are made: a counter is idle until its first request is admitted.
        if len(self._counters) >= self._sweep_size:
            self.sweep()
        counters = {f"key:{key.id}": self._counter(key.id, "", limits_of_key(key.limits))}
        if user:
            limits = limits_of_user(key.limits)
            counters[f"user:{user}"] = self._counter(key.id, user, limits)
        return RequestQuota(counters, self._clock)

    def sweep(self) -> None:
        """Drops the counters that are idle."""
        now = self._clock()
        self._counters = {
            subject: counter
            for subject, counter in self._counters.items()
            if not counter.is_idle(now)
        }
        # To sweep only when the number has doubled makes the cost per new counter constant.
        self._sweep_size = max(MIN_SWEEP_SIZE, 2 * len(self._counters))

    def _counter(self, key_id: str, user: str, limits: UsageLimits) -> UsageCounter:
        counter = self._counters.setdefault((key_id, user), UsageCounter())
        counter.set_limits(limits)
        return counter


class RequestQuota:
    """One request and the counters of its key and user, which it is charged to."""

    def __init__(self, counters: Mapping[str, UsageCounter], clock: Clock) -> None:
        self._counters = counters
        self._clock = clock
        self._charged = dict.fromkeys((PROMPT, CACHE_ADJUSTED, GENERATED), 0)
        self._refused = False

    @contextmanager
    def admit(self, usage: TokenUsage) -> Iterator[None]:
        """Admits the request, counts it while it runs, and charges its tokens at the end.

        Raises:
            RateLimitedError: a limit is reached; nothing is counted then.
        """
        self._check()
        for counter in self._counters.values():
            counter.start_request(self._clock())
        try:
            yield
        finally:
            self.charge(usage, ended=True)
            for counter in self._counters.values():
                counter.end_request()

    def charge(self, usage: TokenUsage, *, ended: bool = False) -> None:
        """Charges the tokens that were used since the last call."""
        prompt = usage.prompt_tokens
        # How much of the prompt was cached is known with the first token.
        cache_known = ended or usage.has_first_token
        used = {
            PROMPT: prompt,
            CACHE_ADJUSTED: max(0, prompt - usage.cached_tokens) if cache_known else 0,
            GENERATED: usage.completion_tokens,
        }
        now = self._clock()
        for kind, amount in used.items():
            for counter in self._counters.values():
                counter.take(kind, amount - self._charged[kind], now)
            self._charged[kind] = max(amount, self._charged[kind])

    def headers(self) -> dict[str, str]:
        """The limits and what is left, as Fireworks' headers; empty where nothing is limited."""
        remaining = self._remaining()
        headers = {}
        for kind, (limit, left) in remaining.items():
            headers[f"x-ratelimit-limit-{kind}"] = str(limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(left + ROUNDING_S)))
        if headers or self._refused:
            overdrawn = any(left < -ROUNDING_S for _, left in remaining.values())
            headers["x-ratelimit-over-limit"] = "yes" if self._refused or overdrawn else "no"
        return headers

    def _remaining(self) -> dict[str, tuple[int, float]]:
        """For each limited kind, the limit of which the least is left: the key's or the user's."""
        now = self._clock()
        tightest: dict[str, tuple[int, float]] = {}
        for counter in self._counters.values():
            for kind, pair in counter.remaining(now).items():
                tightest[kind] = min(tightest.get(kind, pair), pair, key=lambda each: each[1])
        return tightest

    def _check(self) -> None:
        now = self._clock()
        exceeded = [
            (limit.wait_s, subject, limit.limit)
            for subject, counter in self._counters.items()
            for limit in counter.exceeded(now)
        ]
        if exceeded:
            self._refused = True
            wait_s, subject, limit_text = max(exceeded)
            raise RateLimitedError(subject, limit_text, math.ceil(wait_s * 1000) / 1000)
