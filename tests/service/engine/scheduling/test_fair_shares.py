"""What a light tenant feels of a greedy one, in simulated time."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Tenant
from tests.service.engine.timed import Clock, House

GREEDY, LIGHT = Tenant("greedy"), Tenant("light")
IN_LINE = 50
ASKS = 30


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def p95(house: House, clock: Clock, prompt: int, greed: tuple[int, int] | None) -> float:
    """Of the seconds to the first token, while another keeps requests in line."""
    random, due = Random(7), clock.now + 5  # noqa: S311 - arrivals, no secret
    kept: list[Generation] = []
    times = []
    for _ in range(ASKS):
        came: list[Generation] = []
        clock.at(due, lambda came=came: came.append(house.submit(LIGHT, prompt, 1)))
        while not (came and came[0].ended):
            kept = [generation for generation in kept if not generation.ended]
            while greed is not None and len(kept) < IN_LINE:
                kept.append(house.submit(GREEDY, *greed))
            house.step()
        assert came[0].first_token_at is not None
        times.append(came[0].first_token_at - due)
        due = clock.now + random.uniform(0.2, 1.5)
    return float(np.percentile(times, 95))


@pytest.mark.parametrize("slots", [4, 8, 16])
@pytest.mark.parametrize("prompt", [40, 200])
def test_a_greedy_tenant_does_not_double_anothers_time_to_the_first_token(
    clock: Clock, slots: int, prompt: int
) -> None:
    """With 50 requests in line at all times, whose answers take every slot there is."""
    house = House(slots, clock)
    alone = p95(house, clock, prompt, greed=None)
    assert p95(house, clock, prompt, greed=(100, 150)) <= 2 * alone
