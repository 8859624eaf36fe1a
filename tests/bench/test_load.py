from __future__ import annotations

import asyncio
import math
from itertools import pairwise
from time import perf_counter

import pytest

from bench.errors import RequestFailedError
from bench.load import Closed, Open, attempt
from bench.measure import Record
from bench.workload import Request, Workload


async def test_closed_loop_keeps_so_many_under_way() -> None:
    """All requests are sent, and never more at a time than there are clients."""
    running = peak = 0

    async def send(late: float) -> Record:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.001)
        running -= 1
        return Record(0.0, late)

    records = await Closed(3, 10).run(send, math.inf)
    assert (len(records), peak) == (10, 3)


def test_open_loop_arrivals_are_poisson_and_repeatable() -> None:
    """Arrivals have the asked rate, exponential gaps and the seed's own times."""
    load = Open(rate=50, duration=200, seed=1)
    times = load.arrivals()
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert times == load.arrivals() != Open(50, 200, seed=2).arrivals()
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert deviation / mean == pytest.approx(1, rel=0.05)


async def test_open_loop_does_not_wait_for_answers() -> None:
    """Requests are sent when they are due, though none has been answered."""
    load = Open(rate=200, duration=0.1, seed=1)
    all_sent = asyncio.Event()
    waiting = 0

    async def send(late: float) -> Record:
        nonlocal waiting
        waiting += 1
        if waiting == len(load.arrivals()):
            all_sent.set()
        await all_sent.wait()
        return Record(0.0, late)

    records = await asyncio.wait_for(load.run(send, math.inf), 5)
    assert len(records) == len(load.arrivals()) > 5


@pytest.mark.parametrize("load", [Closed(2, 10), Open(rate=100, duration=1, seed=1)])
async def test_nothing_is_sent_after_the_time_limit(load: Closed | Open) -> None:
    """A load ends by itself when its time is over."""

    async def send(_: float) -> Record:
        raise AssertionError

    assert await load.run(send, perf_counter()) == []


class Client:
    """Fails, or never answers."""

    def __init__(self, error: RequestFailedError | None = None) -> None:
        self.error = error

    async def complete(self, request: Request, record: Record) -> None:  # noqa: ARG002
        if self.error:
            raise self.error
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


async def test_attempts_end_in_a_record() -> None:
    """Failure and silence are recorded by name and raise nothing."""
    request = Workload("m", 24, 1, 0, seed=0).request(0)
    failed = await attempt(Client(RequestFailedError("HTTP 500")), request, limit=1)
    silent = await attempt(Client(), request, limit=0.01)
    assert (failed.error, silent.error) == ("HTTP 500", "out of time")
    assert silent.ended - silent.started >= 0.009
