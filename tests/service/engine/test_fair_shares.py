"""What a light tenant feels of a greedy one, in simulated time: steps take what they were
measured to take on two cores (docs/performance.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine import generation, line, scheduler, sequence, worker
from service.engine.generation import Generation
from service.engine.pace import Pace
from service.engine.request import Tenant
from service.engine.scheduler import Scheduler
from service.engine.worker import Event, Worker
from tests.service.engine.fake import END, FakeRunner, byte_vocabulary, greedy

VOCABULARY = byte_vocabulary()
GREEDY, LIGHT = Tenant("greedy"), Tenant("light")
KEPT_IN_LINE = 50
ASKS = 30


class Clock:
    """Moved by runs of the model. What is due goes off at the end of one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: tuple[float, Callable[[], None]] | None = None

    def work(self, seconds: float) -> None:
        self.now += seconds
        if self.due is not None and self.now >= self.due[0]:
            _, go_off = self.due
            self.due = None
            go_off()


class TimedRunner(FakeRunner):
    """Takes the time of SmolLM2-135M with 4-bit weights."""

    def __init__(self, slots: int, clock: Clock) -> None:
        super().__init__(slots)
        self._clock = clock

    def decode(self, tokens: Sequence[int], pasts: Sequence[int]) -> NDArray[np.float32]:
        rows = len(tokens)
        body = 0.0056 if rows == 1 else 0.0021 + 0.0026 * rows
        self._clock.work(body + 8e-6 * sum(pasts))
        return super().decode(tokens, pasts)

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> NDArray[np.float32]:
        self._clock.work(0.0017 * len(tokens) + 8e-6 * past)
        return super().prefill(slot, tokens, past)


class House:
    """A worker in which one tenant keeps requests in line while another asks now and then."""

    def __init__(self, slots: int, clock: Clock) -> None:
        runner = TimedRunner(slots, clock)
        self.scheduler = Scheduler(runner, VOCABULARY, {END}, budget=1_000_000)
        self._worker = Worker(runner, self.scheduler, Pace(0.05), None, deliver, drafts=False)
        self._clock = clock
        self._kept: list[Generation] = []
        self.greed: tuple[int, int] | None = None
        """Tokens in and out of each of the greedy one's requests."""

    def submit(self, tenant: Tenant, prompt: int, max_tokens: int) -> Generation:
        submitted = Generation(greedy("p" * prompt, max_tokens, tenant=tenant), lambda _: None)
        self._worker.add(submitted)
        return submitted

    def step(self) -> None:
        self._kept = [kept for kept in self._kept if not kept.ended]
        while self.greed is not None and len(self._kept) < KEPT_IN_LINE:
            self._kept.append(self.submit(GREEDY, *self.greed))
        self._worker.step()

    def ttft(self, prompt: int, due: float) -> float:
        """Seconds to the first token of one who comes at a time, or as soon as time comes to it."""
        came: list[Generation] = []
        self._clock.due = (due, lambda: came.append(self.submit(LIGHT, prompt, 1)))
        if self.greed is None:
            self._clock.work(due - self._clock.now)
        while not (came and came[0].ended):
            self.step()
        first_at = came[0].first_at
        assert first_at is not None
        return first_at - due


def deliver(events: list[Event]) -> None:
    for event in events:
        event()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    simulated = SimpleNamespace(monotonic=lambda: clock.now, perf_counter=lambda: clock.now)
    for module in (generation, line, scheduler, sequence, worker):
        monkeypatch.setattr(module, "time", simulated)
    return clock


def p95(house: House, clock: Clock, prompt: int) -> float:
    random, start = Random(7), clock.now + 5  # noqa: S311 - arrivals, no secret
    times = []
    for _ in range(ASKS):
        times.append(house.ttft(prompt, start))
        start = clock.now + random.uniform(0.2, 1.5)
    return float(np.percentile(times, 95))


@pytest.mark.parametrize("slots", [4, 8, 16])
@pytest.mark.parametrize("prompt", [40, 200])
def test_a_greedy_tenant_does_not_double_anothers_time_to_the_first_token(
    clock: Clock, slots: int, prompt: int
) -> None:
    """With 50 requests in line at all times, whose answers take every slot there is."""
    house = House(slots, clock)
    alone = p95(house, clock, prompt)
    house.greed = (100, 150)
    assert p95(house, clock, prompt) <= 2 * alone
