"""The engine's current load, as admission sees it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import GenerationRequest, Tenant


class Demand(NamedTuple):
    """What a request needs: prompt tokens to be computed, and slots for its choices."""

    tenant: Tenant
    tokens: int = 1
    choices: int = 1

    @classmethod
    def of(cls, request: GenerationRequest) -> Self:
        return cls(request.tenant, len(request.prompt), request.n)


@dataclass(slots=True)
class EngineLoad:
    """What waits for a slot, what holds slots, and whose prompts are being computed."""

    waiting: list[Demand] = field(default_factory=list)
    prefilling: list[Demand] = field(default_factory=list)
    running: Counter[Tenant] = field(default_factory=Counter)
    """By tenant, the choices that have not ended, of requests that hold a slot."""
    age: float = 0.0
    """The mean time for which those requests have held a slot, in seconds."""

    @classmethod
    def of(cls, live: Iterable[Generation], expected: Iterable[Demand]) -> Self:
        """The load of the live requests, and of others for which a place is reserved."""
        load, begun = cls(), list[float]()
        load.waiting += expected
        for generation in live:
            demand = Demand.of(generation.request)
            if generation.started_at is None:
                load.waiting.append(demand)
                continue
            begun.append(generation.started_at)
            load.running[demand.tenant] += generation.unfinished
            if generation.completion_tokens == 0:
                rest = demand.tokens - generation.cached_tokens
                load.prefilling.append(demand._replace(tokens=rest, choices=0))
        if begun:
            load.age = time.monotonic() - sum(begun) / len(begun)
        return load
