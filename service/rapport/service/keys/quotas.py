"""Who may use how much: limits of keys and of their users, kept in memory.

Limits are of this process; several of them behind a balancer each grant them in full.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rapport.service.errors import RateLimitedError
from rapport.service.interceptors.account import Account
from rapport.service.keys.bucket import ROUNDING
from rapport.service.keys.key_store import Key
from rapport.service.keys.tally import (
    CACHE_ADJUSTED,
    GENERATED,
    PROMPT,
    Allowance,
    Tally,
    of_key,
    of_user,
)

Clock = Callable[[], float]

# So many tallies are kept before the idle ones are looked for.
FEW = 1024


class Quotas:
    """The tallies of all keys and users that are not idle. For the event loop."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """The clock is monotonic and in seconds."""
        self._clock = clock
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._sweep_at = FEW

    def __len__(self) -> int:
        return len(self._tallies)

    def visit(self, key: Key, user: str) -> Visit:
        """A request of a key's user, before it is let in. The nameless have no limits of a user."""
        # Before either is made: a tally is idle until its first request is let in.
        if len(self._tallies) >= self._sweep_at:
            self._forget_idle()
        tallies = {f"key:{key.id}": self._tally(key.id, "", of_key(key.limits))}
        if user:
            tallies[f"user:{user}"] = self._tally(key.id, user, of_user(key.limits))
        return Visit(tallies, self._clock)

    def _tally(self, key: str, user: str, allowance: Allowance) -> Tally:
        tally = self._tallies.setdefault((key, user), Tally())
        tally.allow(allowance)
        return tally

    def _forget_idle(self) -> None:
        now = self._clock()
        self._tallies = {
            whose: tally for whose, tally in self._tallies.items() if not tally.is_idle(now)
        }
        # To look only when they have doubled costs each newcomer the same.
        self._sweep_at = max(FEW, 2 * len(self._tallies))


class Visit:
    """One request, and what it uses of the tallies of its key and user."""

    def __init__(self, tallies: Mapping[str, Tally], clock: Clock) -> None:
        self._tallies = tallies
        self._clock = clock
        self._charged = dict.fromkeys((PROMPT, CACHE_ADJUSTED, GENERATED), 0)
        self._refused = False

    @contextmanager
    def admitted(self, account: Account) -> Iterator[None]:
        """Lets the request in, counts it while it runs, and charges at the end what it used.

        Raises:
            RateLimitedError: a limit is reached. Nothing is counted then.
        """
        self._check()
        for tally in self._tallies.values():
            tally.enter(self._clock())
        try:
            yield
        finally:
            self.charge(account, ended=True)
            for tally in self._tallies.values():
                tally.leave()

    def charge(self, account: Account, *, ended: bool = False) -> None:
        """Charges the tokens that the account has beyond those that were charged before."""
        prompt = account.prompt_tokens
        # What of it was in the cache is known with the first token.
        read = ended or account.ttft is not None
        used = {
            PROMPT: prompt,
            CACHE_ADJUSTED: max(0, prompt - account.cached_tokens) if read else 0,
            GENERATED: account.completion_tokens,
        }
        now = self._clock()
        for kind, amount in used.items():
            for tally in self._tallies.values():
                tally.take(kind, amount - self._charged[kind], now)
            self._charged[kind] = max(amount, self._charged[kind])

    def headers(self) -> dict[str, str]:
        """What is left, in the names that Fireworks gives it; empty where nothing is limited."""
        now = self._clock()
        left: dict[str, tuple[int, float]] = {}
        for tally in self._tallies.values():
            for kind, mine in tally.left(now).items():
                left[kind] = min(left.get(kind, mine), mine, key=lambda pair: pair[1])
        told = {}
        for kind, (limit, remaining) in left.items():
            told[f"x-ratelimit-limit-{kind}"] = str(limit)
            told[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(remaining + ROUNDING)))
        if told or self._refused:
            over = self._refused or any(remaining < -ROUNDING for _, remaining in left.values())
            told["x-ratelimit-over-limit"] = "yes" if over else "no"
        return told

    def _check(self) -> None:
        now = self._clock()
        excesses = [
            (excess.wait, whose, excess.limit)
            for whose, tally in self._tallies.items()
            for excess in tally.excesses(now)
        ]
        if excesses:
            self._refused = True
            wait, whose, limit = max(excesses)
            raise RateLimitedError(whose, limit, math.ceil(wait * 1000) / 1000)
