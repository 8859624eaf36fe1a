"""The jobs that wait for a slot, and which of them is next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from service.engine.fairness import Ledger
from service.engine.request import Tier
from service.engine.sequence import Job

# A request that others of its tenant overtook for this long, in seconds, goes before them.
PATIENCE = 30.0


class Line:
    """Least served tenant first; within one, by tier and then by arrival."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._jobs: dict[Job, None] = {}  # a set that keeps the order

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def append(self, job: Job) -> None:
        self._jobs[job] = None

    def remove(self, job: Job) -> None:
        """Takes a job out, if it waits."""
        self._jobs.pop(job, None)

    def first(self, may: Callable[[Job], bool]) -> Job | None:
        """The next of the jobs that may have a slot."""
        return min(filter(may, self._jobs), key=self._rank, default=None)

    def _rank(self, job: Job) -> tuple[float, Tier]:
        waited = time.monotonic() - job.arrived
        tier = Tier.PRIORITY if waited > PATIENCE else job.request.tier
        return self._ledger.served(job.request.tenant), tier
