"""The groups that wait for a slot, and their order."""

from __future__ import annotations

import time
from collections.abc import Callable

from rapport.service.engine.request import Tenant, Tier
from rapport.service.engine.scheduling.fairness import ServiceLedger
from rapport.service.engine.sequences import SequenceGroup

# Seconds for which other requests of its tenant may overtake one, before it goes first.
MAX_OVERTAKEN_S = 30.0


class WaitingQueue:
    """The least served tenant goes first; among equals, the one that has waited longer.

    Within a tenant, preempted groups come first, then tiers in order, then order of arrival.
    """

    def __init__(self, ledger: ServiceLedger) -> None:
        self._ledger = ledger
        # The inner dicts are sets that keep the order.
        self._groups: dict[Tenant, dict[SequenceGroup, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def append(self, group: SequenceGroup) -> None:
        self._groups.setdefault(group.request.tenant, {})[group] = None

    def remove(self, group: SequenceGroup) -> None:
        """Removes a group, if it is waiting."""
        own = self._groups.get(group.request.tenant, {})
        own.pop(group, None)
        if not own:
            self._groups.pop(group.request.tenant, None)

    def first(self, may: Callable[[Tenant], bool]) -> SequenceGroup | None:
        """The first group of those tenants for which `may` is true."""
        tenant = min(filter(may, self._groups), key=self._turn, default=None)
        return None if tenant is None else min(self._groups[tenant], key=_rank)

    def preempted(self) -> SequenceGroup | None:
        """Any group with a preempted sequence."""
        groups = (group for own in self._groups.values() for group in own if group.preempted)
        return next(groups, None)

    def _turn(self, tenant: Tenant) -> tuple[float, float, float]:
        return *self._ledger.served(tenant), next(iter(self._groups[tenant])).arrived


def _rank(group: SequenceGroup) -> tuple[bool, Tier]:
    waited = time.monotonic() - group.arrived
    return not group.preempted, Tier.PRIORITY if waited > MAX_OVERTAKEN_S else group.request.tier
