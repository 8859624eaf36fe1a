"""Which tenants hold the slots, and which sequence is preempted so that each tenant has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rapport.service.engine.request import Tenant
from rapport.service.engine.sequences import SequenceState


class SlotHoldings:
    """Counts the slots of some sequences by API key and by tenant."""

    def __init__(self, sequences: Iterable[SequenceState]) -> None:
        self._sequences = list(sequences)
        self._tenants = Counter(sequence.tenant for sequence in self._sequences)
        self._keys = Counter(sequence.tenant.key for sequence in self._sequences)

    def holds(self, tenant: Tenant) -> bool:
        """Whether a tenant holds any slot."""
        return self._tenants[tenant] > 0

    def max_of_another(self, tenant: Tenant) -> int:
        """The most slots that one other key holds, or one other user of the same key."""
        keys = (count for key, count in self._keys.items() if key != tenant.key)
        users = (
            count
            for other, count in self._tenants.items()
            if other.key == tenant.key and other != tenant
        )
        return max((*keys, *users), default=0)

    def victim_for(self, key: str) -> SequenceState | None:
        """The sequence to preempt for a user of `key` who holds no slot, or None.

        It is the newest sequence of the user with the most slots, of the key with the most. A user
        of the same key keeps at least one slot; another key keeps as many as `key` then has.
        """
        able = (sequence for sequence in self._sequences if self._preemptible(sequence, key))
        return max(able, key=self._preemption_order, default=None)

    def _preemptible(self, sequence: SequenceState, key: str) -> bool:
        group, own = sequence.group, sequence.tenant
        if own.key == key:
            spare = self._tenants[own] > 1
        else:
            spare = self._keys[own.key] > self._keys[key] + 1
        needed = (
            group.waiting > 0 and len(group.running) == 1
        )  # it alone holds the prompt for others
        due = not (sequence.output or sequence.remaining_prompt)  # its first token comes now
        return spare and not needed and not due

    def _preemption_order(self, sequence: SequenceState) -> tuple[int, int, float]:
        tenant = sequence.tenant
        return self._keys[tenant.key], self._tenants[tenant], sequence.started_at
