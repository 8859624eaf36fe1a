"""Decides whether a request may join the queue: limits on its length and the waiting time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from random import uniform
from typing import NamedTuple, Self

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.request import Tenant
from rapport.service.engine.scheduling.fairness import CREDIT_TOKENS
from rapport.service.engine.scheduling.latency_model import (
    LEARNING_RATE,
    SLICE_GRAIN_TOKENS,
    LatencyModel,
)
from rapport.service.engine.scheduling.load import Demand, EngineLoad

MIN_RETRY_S, MAX_RETRY_S = 0.1, 60.0
# Callers that are refused together get retry times that differ by up to this factor.
RETRY_SPREAD = 1.5
# A key may take this many times as much of the queue as it leaves free: four fifths when alone, so
# that a newcomer always finds room. The same holds for a user within the room for its key.
# Source: Choudhury and Hahne, Dynamic Queue Length Thresholds for Shared-Memory Packet
# Switches, 1998.
MAX_SHARE_RATIO = 4

Measure = Callable[[Demand], int]
Served = Callable[[Tenant], tuple[float, float]]
"""What the key of a tenant has been served so far, and what the tenant itself has."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What may wait. Tokens are those of prompts, `ttft` is in seconds.

    With 0 requests, only those that find a free slot get in; 0 for the others means no limit.
    """

    requests: int
    tokens: int
    ttft: float


class QueueShare(NamedTuple):
    """What is free in a queue, and how much of it a key and a user have."""

    left: int
    key: int
    user: int

    @classmethod
    def of(cls, tenant: Tenant, queue: Sequence[Demand], limit: int, measure: Measure) -> Self:
        key = [each for each in queue if each.tenant.key == tenant.key]
        user = [each for each in key if each.tenant == tenant]
        used, *parts = (sum(map(measure, each)) for each in (queue, key, user))
        return cls(limit - used, *parts)

    @property
    def room(self) -> int:
        """How much more the user may take."""
        for_key = min(self.left, MAX_SHARE_RATIO * self.left - self.key)
        return min(for_key, MAX_SHARE_RATIO * for_key - self.user)

    def wait(self, size: int, step: int) -> int:
        """How much must leave the queue to make room, if the key's own part leaves first."""
        return next(
            gone
            for gone in count(step, step)
            if gone >= self.key or self._without(gone).room >= size
        )

    def _without(self, gone: int) -> QueueShare:
        return QueueShare(self.left + gone, max(0, self.key - gone), max(0, self.user - gone))


class Admission:
    """Predicts how long a new request would wait. For the event loop."""

    def __init__(
        self, limits: AdmissionLimits, slots: int, latency_model: LatencyModel, served: Served
    ) -> None:
        self._limits = limits
        self._slots = slots
        self._latency_model = latency_model
        self._served = served
        self._slot_seconds = 1.0  # mean time for which a request holds a slot

    def observe(self, seconds: float) -> None:
        """Learns how many seconds a request held its slot."""
        self._slot_seconds += LEARNING_RATE * (seconds - self._slot_seconds)

    def check(self, demand: Demand, load: EngineLoad) -> None:
        """Admits a request beside the current load.

        Raises:
            OverloadedError: a limit is reached; the error says when to try again.
        """
        free = max(0, self._slots - load.running.total())
        if len(load.waiting) >= free:
            # The first requests in the queue are about to get the free slots.
            queue = load.waiting[free:]
            self._check_requests(demand, queue, load)
            if self._limits.tokens:
                self._check_tokens(demand, queue)
        ttft = self.ttft(demand, load)
        limit = self._limits.ttft
        if limit and ttft > limit and (load.waiting or load.running):
            text = f"the first token would take about {ttft:.0f} s, the limit is {limit:g} s"
            raise _overloaded(text, Bound.TTFT, ttft - limit)

    def ttft(self, demand: Demand, load: EngineLoad) -> float:
        """Predicts the seconds until a request would get its first token.

        Ahead of it is what the ledger puts there: everything that its tenant asked for earlier, and
        of other tenants as much as makes their shares equal.
        """
        demands = (*load.waiting, *load.prefilling)
        tokens = self._up_to(demand, demands, lambda each: each.tokens)
        prompts = [each.tokens for each in (demand, *demands)]
        depth = sum(prompt * prompt for prompt in prompts) / sum(prompts) / 2
        busy = load.running.total() > 0
        prefill = self._latency_model.prefill(round(tokens), depth=depth, beside_decode=busy)
        return prefill + self._queue(demand, load)

    def _queue(self, demand: Demand, load: EngineLoad) -> float:
        """Seconds until a slot is free, or another tenant is preempted."""
        newcomer = not load.running[demand.tenant] and all(
            each.tenant != demand.tenant for each in load.waiting
        )
        if newcomer and max(load.running.values(), default=0) > 1:
            return 0.0
        choices = self._up_to(demand, load.waiting, lambda each: each.choices) - demand.choices + 1
        ahead = max(0.0, choices + load.running.total() - self._slots)
        return ahead * self._turnover(load)

    def _up_to(self, demand: Demand, demands: Sequence[Demand], measure: Measure) -> float:
        """The sum over a request and those before it, as keys and users take turns."""
        users, keys = Counter[Tenant](), Counter[str]()
        for each in demands:
            users[each.tenant] += measure(each)
            keys[each.tenant.key] += measure(each)
        per_token = users.total() / max(1, sum(each.tokens for each in demands))
        key, user = self._served(demand.tenant)
        own = total = float(measure(demand) + users.pop(demand.tenant, 0))
        for other, backlog in users.items():
            if other.key == demand.tenant.key:
                lead = min(self._served(other)[1] - user, CREDIT_TOKENS) * per_token
                total += min(backlog, max(0.0, own - lead))
        keys.pop(demand.tenant.key, None)
        own = total
        for other_key, backlog in keys.items():
            lead = min(self._served(Tenant(other_key))[0] - key, CREDIT_TOKENS) * per_token
            total += min(backlog, max(0.0, own - lead))
        return total

    def _check_requests(self, demand: Demand, queue: Sequence[Demand], load: EngineLoad) -> None:
        claim = QueueShare.of(demand.tenant, queue, self._limits.requests, lambda _: 1)
        if claim.room < 1:
            turns = claim.wait(1, step=1) * _sharers(demand.tenant, queue)
            text = "too many requests are waiting" if self._limits.requests else "no slot is free"
            raise _overloaded(text, Bound.REQUESTS, turns * self._turnover(load))

    def _check_tokens(self, demand: Demand, queue: Sequence[Demand]) -> None:
        limit = self._limits.tokens
        claim = QueueShare.of(demand.tenant, queue, limit, lambda each: each.tokens)
        if claim.room < demand.tokens and queue:
            tokens = claim.wait(demand.tokens, step=SLICE_GRAIN_TOKENS) * _sharers(
                demand.tenant, queue
            )
            seconds = self._latency_model.prefill(tokens, beside_decode=True)
            raise _overloaded("too many prompt tokens are waiting", Bound.PROMPT_TOKENS, seconds)

    def _turnover(self, load: EngineLoad) -> float:
        """Seconds between two requests that free their slots."""
        return max(self._slot_seconds, load.age) / self._slots


def _sharers(tenant: Tenant, waiting: Sequence[Demand]) -> int:
    """How many tenants take turns until there is room for one of them."""
    tenants = {each.tenant for each in waiting}
    return len(tenants) if tenant in tenants else 1


def _overloaded(text: str, bound: Bound, seconds: float) -> OverloadedError:
    wait = min(max(seconds, MIN_RETRY_S), MAX_RETRY_S / RETRY_SPREAD)
    return OverloadedError(text, bound, retry_after=wait * uniform(1, RETRY_SPREAD))  # noqa: S311 - no secret
