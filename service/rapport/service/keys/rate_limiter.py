"""Rate limits of API keys and of their users, kept in memory.

The limits hold for this process; several replicas behind a load balancer each grant them in full.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
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

    def quota(self, key: Key) -> RequestQuota:
        """The quota of one request of a key, before it is admitted."""
        counter_of_user = partial(self._counter, key.id, limits=limits_of_user(key.limits))
        counter = self._counter(key.id, "", limits_of_key(key.limits))
        return RequestQuota(f"key:{key.id}", counter, counter_of_user, self._clock)

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
        # Before the counter is made: it is idle until its first request is admitted.
        if len(self._counters) >= self._sweep_size:
            self.sweep()
        counter = self._counters.setdefault((key_id, user), UsageCounter())
        counter.set_limits(limits)
        return counter


class RequestQuota:
    """One request and the counters of its key and user, which it is charged to."""

    def __init__(
        self,
        subject: str,
        counter: UsageCounter,
        counter_of_user: Callable[[str], UsageCounter],
        clock: Clock,
    ) -> None:
        """Takes the name and the counter of the key, and what finds those of its users."""
        self._counters = {subject: counter}
        self._counter_of_user = counter_of_user
        self._clock = clock
        self._running: list[UsageCounter] = []
        self._confirmed = False
        self._charged = dict.fromkeys((PROMPT, CACHE_ADJUSTED, GENERATED), 0)
        self._refused = False

    @contextmanager
    def admit(self, usage: TokenUsage) -> Iterator[None]:
        """Counts the request while it runs, and charges its tokens at the end.

        It counts among those of the minute only if it is confirmed meanwhile.

        Raises:
            RateLimitedError: a limit of the key is reached; nothing is counted then.
        """
        self._start(self._counters)
        try:
            yield
        finally:
            self.charge(usage, ended=True)
            for counter in self._running:
                counter.end_request()
                if not self._confirmed:
                    counter.give_request_back()

    def confirm(self, user: str) -> None:
        """Notes that the request has come, and counts it for its user; an empty name is none.

        Raises:
            RateLimitedError: a limit of the user is reached.
        """
        if user:
            counter = {f"user:{user}": self._counter_of_user(user)}
            self._counters |= counter
            self._start(counter)
        self._confirmed = True

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

    def _start(self, counters: Mapping[str, UsageCounter]) -> None:
        """Checks the limits, then counts the request."""
        now = self._clock()
        exceeded = [
            (limit.wait_s, subject, limit.limit)
            for subject, counter in counters.items()
            for limit in counter.exceeded(now)
        ]
        if exceeded:
            self._refused = True
            wait_s, subject, limit_text = max(exceeded)
            raise RateLimitedError(subject, limit_text, math.ceil(wait_s * 1000) / 1000)
        for counter in counters.values():
            counter.start_request(now)
            self._running.append(counter)
