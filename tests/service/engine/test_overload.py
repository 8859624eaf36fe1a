"""A server that is asked for more than it can do, in simulated time."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import pytest

from rapport.service.engine.errors import OverloadedError
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import ANONYMOUS
from rapport.service.engine.scheduling.admission import Admission, AdmissionLimits
from rapport.service.engine.scheduling.load import Demand, EngineLoad
from tests.service.engine.timed import Clock, House

SLOTS = 16
PROMPT, ANSWER = 64, 64
MAX_TTFT = 3.0
SECONDS = 60.0


@dataclass
class Outcome:
    accepted: int
    refused: int
    ttft: float
    """95th percentile."""
    goodput: float
    """Requests a second whose first token came in time."""


def flooded(monkeypatch: pytest.MonkeyPatch, rate: float) -> Outcome:
    """So many requests a second come, for a minute."""
    clock = Clock(monkeypatch)
    house = House(SLOTS, clock)
    limits = AdmissionLimits(requests=256, tokens=0, ttft=MAX_TTFT)
    admission = Admission(limits, SLOTS, house.latency_model, house.scheduler.ledger.served)
    live: list[Generation] = []
    done: list[Generation] = []
    refused = 0

    def come() -> None:
        nonlocal refused
        try:
            admission.check(Demand(ANONYMOUS, PROMPT), EngineLoad.of(live, []))
        except OverloadedError:
            refused += 1
        else:
            live.append(house.submit(ANONYMOUS, PROMPT, ANSWER))

    random, due = Random(3), 0.0  # noqa: S311 - arrivals, no secret
    while (due := due + random.expovariate(rate)) < SECONDS:
        clock.at(due, come)
    while house.step():
        for generation in [each for each in live if each.ended]:
            live.remove(generation)
            done.append(generation)
            assert generation.started_at is not None
            admission.observe(clock.now - generation.started_at)
    ttfts = [each.first_token_at - each.submitted_at for each in done if each.first_token_at]
    good = sum(ttft <= MAX_TTFT for ttft in ttfts)
    return Outcome(len(done), refused, float(np.percentile(ttfts, 95)), good / clock.now)


def test_more_than_can_be_done_harms_nothing_that_is_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At twice and ten times what can be done, the first token is about as soon as was promised,
    and as much is done."""
    once, twice, tenfold = (flooded(monkeypatch, factor * 3.5) for factor in (1, 2, 10))
    for over in (twice, tenfold):
        assert over.refused > 0
        assert over.ttft <= 1.25 * MAX_TTFT
        assert over.goodput >= 0.9 * once.goodput
