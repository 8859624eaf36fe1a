"""A worker in simulated time: steps take what they were measured to take on two cores
(docs/notes/performance.md), whatever the machine of the test does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from rapport.service.engine import generation, outbox, sequences, stats, worker
from rapport.service.engine.generation import Generation
from rapport.service.engine.messages import AddRequest, dispatch
from rapport.service.engine.request import Tenant
from rapport.service.engine.runtime import step_executor as runs
from rapport.service.engine.sampling.logits import StepSettings
from rapport.service.engine.scheduling import load, scheduler
from rapport.service.engine.scheduling import waiting_queue as line
from rapport.service.engine.scheduling.latency_model import LatencyModel
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.worker import Worker
from tests.service.engine.fake import END, FakeRunner, byte_vocabulary, greedy

VOCABULARY = byte_vocabulary()


class Clock:
    """Moved by runs of the model. What is due goes off at the end of one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        simulated = SimpleNamespace(monotonic=lambda: self.now, perf_counter=lambda: self.now)
        for module in (outbox, generation, line, load, runs, scheduler, sequences, stats, worker):
            monkeypatch.setattr(module, "time", simulated)

    def at(self, when: float, go_off: Callable[[], None]) -> None:
        heappush(self._due, (when, next(self._numbers), go_off))

    def work(self, seconds: float) -> None:
        self.now += seconds
        while self._due and self._due[0][0] <= self.now:
            heappop(self._due)[2]()

    def wait(self) -> bool:
        """Moves on to what is due next, if anything is."""
        if self._due:
            self.work(max(0.0, self._due[0][0] - self.now))
            return True
        return False


class TimedRunner(FakeRunner):
    """Takes the time of SmolLM2-135M with 4-bit weights."""

    def __init__(self, slots: int, clock: Clock) -> None:
        super().__init__(slots)
        self._clock = clock

    def decode(
        self, tokens: Sequence[int], pasts: Sequence[int], settings: StepSettings | None = None
    ) -> NDArray[np.float32]:
        rows = len(tokens)
        body = 0.0056 if rows == 1 else 0.0021 + 0.0026 * rows
        self._clock.work(body + 8e-6 * sum(pasts))
        return super().decode(tokens, pasts, settings)

    def prefill(self, slot: int, tokens: Sequence[int], past: int) -> NDArray[np.float32]:
        self._clock.work(0.0017 * len(tokens) + 8e-6 * past)
        return super().prefill(slot, tokens, past)


class House:
    """A worker, stepped by hand."""

    def __init__(self, slots: int, clock: Clock) -> None:
        runner = TimedRunner(slots, clock)
        self.latency_model = LatencyModel(0.05)
        self.scheduler = Scheduler(runner, VOCABULARY, {END}, budget=1_000_000)
        self._worker = Worker(
            runner, self.scheduler, self.latency_model, None, dispatch, drafts=False
        )
        self._clock = clock

    def submit(self, tenant: Tenant, prompt: int, max_tokens: int) -> Generation:
        """Puts a request of so many tokens in and out in line."""
        submitted = Generation(greedy("p" * prompt, max_tokens, tenant=tenant), lambda _: None)
        self._worker.put(AddRequest(submitted))
        return submitted

    def step(self) -> bool:
        """Runs the model, or moves on to what is due. Whether there was either."""
        if self._worker.idle:
            return self._clock.wait()
        self._worker.step()
        return True
