"""The jobs that wait for a slot, and which of them is next."""

from __future__ import annotations

import time
from collections.abc import Callable

from rapport.service.engine.request import Tenant, Tier
from rapport.service.engine.scheduling.fairness import Ledger
from rapport.service.engine.sequence import Job

# A request that others of its tenant overtook for this long, in seconds, goes before them.
PATIENCE = 30.0


class Line:
    """Least served tenant first, of equals the one that waits longer.

    Within a tenant what was parked goes on first, then by tier and then by arrival.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # The inner dicts are sets that keep the order.
        self._jobs: dict[Tenant, dict[Job, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._jobs.values()))

    def append(self, job: Job) -> None:
        self._jobs.setdefault(job.request.tenant, {})[job] = None

    def remove(self, job: Job) -> None:
        """Takes a job out, if it waits."""
        own = self._jobs.get(job.request.tenant, {})
        own.pop(job, None)
        if not own:
            self._jobs.pop(job.request.tenant, None)

    def first(self, may: Callable[[Tenant], bool]) -> Job | None:
        """The next of the jobs whose tenant may have a slot."""
        tenant = min(filter(may, self._jobs), key=self._turn, default=None)
        return None if tenant is None else min(self._jobs[tenant], key=rank)

    def parked(self) -> Job | None:
        """A job that has given a slot away."""
        jobs = (job for own in self._jobs.values() for job in own if job.parked)
        return next(jobs, None)

    def _turn(self, tenant: Tenant) -> tuple[float, float, float]:
        return *self._ledger.served(tenant), next(iter(self._jobs[tenant])).arrived


def rank(job: Job) -> tuple[bool, Tier]:
    waited = time.monotonic() - job.arrived
    return not job.parked, Tier.PRIORITY if waited > PATIENCE else job.request.tier
