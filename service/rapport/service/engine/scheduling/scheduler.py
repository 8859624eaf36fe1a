"""Decides who runs next. Groups wait for a slot; then their sequences prefill, then they decode.

The tenant that has been served least goes first. A tenant that is alone may take every slot. When
another one comes, a sequence of the first is preempted: the contents of its slot move to the host's
memory. Where the host cannot reach the slots, the last ones are kept for tenants that have none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from functools import cache
from math import ceil

from rapport.service.engine.request import ANONYMOUS, Tenant
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.scheduling.fairness import ServiceLedger
from rapport.service.engine.scheduling.preemption import SlotHoldings
from rapport.service.engine.scheduling.slot_table import SlotTable
from rapport.service.engine.scheduling.waiting_queue import WaitingQueue
from rapport.service.engine.sequences import SequenceGroup, SequenceState
from rapport.service.engine.text.vocabulary import Vocabulary

# Seconds for which other prompts may overtake one, before it goes first.
MAX_OVERTAKEN_S = 2.0
# One in HEADROOM_DIVISOR tokens is kept for tenants that have no slot; where nobody can be
# preempted, so is one in as many slots. Nothing is kept from requests without a tenant, and no slot
# where there are MIN_SHARED_SLOTS or fewer.
HEADROOM_DIVISOR = 8
MIN_SHARED_SLOTS = 3


class Scheduler:
    """Gives slots to sequences and takes them back. `budget` is in tokens over all slots."""

    def __init__(
        self, runner: Runner, vocabulary: Vocabulary, ends: Collection[int], budget: int
    ) -> None:
        self.ledger = ServiceLedger()
        self.waiting = WaitingQueue(self.ledger)
        self._slot_table = SlotTable(runner)
        self.prefilling, self.decoding = self._slot_table.prefilling, self._slot_table.decoding
        self.counters = self._slot_table.counters
        self._runner = runner
        self._vocabulary = vocabulary
        self._ends = ends
        self.budget = budget
        self.free_tokens = budget
        self.slots = runner.slots
        self._memory = runner.memory
        kept = runner.memory is None and runner.slots > MIN_SHARED_SLOTS
        self._headroom_slots = ceil(runner.slots / HEADROOM_DIVISOR) * kept
        self._headroom_tokens = budget // HEADROOM_DIVISOR

    @property
    def idle(self) -> bool:
        return not (len(self.waiting) or self.prefilling or self.decoding)

    @property
    def reserved_tokens(self) -> int:
        """Tokens that the sequences in slots may grow to."""
        return self.budget - self.free_tokens

    def tokens_in(self, slot: int) -> int:
        """How many tokens a slot holds."""
        return self._slot_table.tokens_in(slot)

    def admit(self) -> Iterator[SequenceGroup]:
        """The groups that may have a slot. Call `start` with each before taking the next."""
        if not self.waiting:
            return  # the usual case: there is no need to count who holds what
        for newcomers_only in (False, True):
            # A group that does not fit blocks those behind it, which would take the tokens that it
            # waits for. The headroom for newcomers is not among these, hence the second round.
            while (group := self._next_group(newcomers_only=newcomers_only)) and self._fits(group):
                yield group
        # A preempted sequence still has its tokens reserved, and gives them back when it ends.
        while self._slot_table.free and (group := self.waiting.preempted()):
            yield group

    def start(
        self, group: SequenceGroup, begin: Callable[[SequenceGroup], None]
    ) -> SequenceState | None:
        """Gives a group a slot, and calls `begin` first if it is the group's first slot.

        Returns the new sequence if it is ready for its first token, as another one has computed
        the prompt. If the runner fails to copy something, the caller has to drop the group.
        """
        if not self._slot_table.free:
            self._preempt_for(group.request.tenant)
        self.waiting.remove(group)
        if group.preempted:
            self._resume(group)
        elif group.prompt_logits is None:
            begin(group)
            self.prefilling.append(self._take_slot(group))
        else:
            return self._fork(group)
        return None

    def next_prefill(self) -> SequenceState | None:
        """The sequence whose prompt is computed next.

        It is one of the least served tenant: the one with the fewest tokens left, or the oldest if
        that has waited too long.
        """
        if not self.prefilling:
            return None
        tenant = min((sequence.tenant for sequence in self.prefilling), key=self.ledger.served)
        own = [sequence for sequence in self.prefilling if sequence.tenant == tenant]
        eldest = min(own, key=lambda sequence: sequence.started_at)
        if time.monotonic() - eldest.started_at > MAX_OVERTAKEN_S:
            return eldest
        return min(own, key=lambda sequence: sequence.remaining_prompt)

    def crowded_out(self, tenant: Tenant) -> bool:
        """Whether another tenant has more than half of the decoding sequences."""
        return 2 * SlotHoldings(self.decoding).max_of_another(tenant) > len(self.decoding)

    @property
    def newcomer(self) -> bool:
        """Whether the next prompt has not been started and its tenant is crowded out."""
        sequence = self.next_prefill()
        return sequence is not None and not sequence.computed and self.crowded_out(sequence.tenant)

    def promote(self, sequence: SequenceState) -> None:
        """Moves a sequence with a computed prompt to decoding; its siblings may now start."""
        self.prefilling.remove(sequence)
        self._slot_table.place(sequence)
        if sequence.group.waiting:
            self.waiting.append(sequence.group)

    def hand_over(self, sequence: SequenceState) -> SequenceState | None:
        """Gives the slot of a finished choice to a successor: the next choice of its group.

        Only if the finished one is the last to hold a prompt that other choices need; otherwise
        returns None, and the caller calls `finish`. If the successor cannot be made, the caller has
        to drop the group.
        """
        group = sequence.group
        if not group.waiting or group.running != [sequence]:
            return None
        successor = self._sequence(group, sequence.slot)
        successor.computed = len(group.request.prompt)
        group.running.remove(sequence)
        self._slot_table.replace(sequence, successor)
        if not (group.waiting or group.preempted):
            self.waiting.remove(group)
        return successor

    def finish(self, sequence: SequenceState) -> None:
        """Takes a decoding sequence out."""
        sequence.group.running.remove(sequence)
        self._slot_table.take_out(sequence)
        self.free_tokens += sequence.group.tokens

    def drop(self, group: SequenceGroup) -> None:
        """Takes a group out, wherever it is."""
        for sequence in tuple(group.running):
            group.running.remove(sequence)
            self._slot_table.take_out(sequence)
            self.free_tokens += group.tokens
        self.free_tokens += len(group.preempted) * group.tokens
        group.preempted.clear()
        self.waiting.remove(group)

    def _next_group(self, *, newcomers_only: bool) -> SequenceGroup | None:
        """The first group whose tenant may have a slot: a free one, or by preemption."""
        holdings = SlotHoldings(self._slot_table.running)
        yielding = cache(holdings.victim_for)

        def may_run(tenant: Tenant) -> bool:
            if holdings.holds(tenant):
                kept = self._headroom_slots * (tenant != ANONYMOUS)
                return not newcomers_only and len(self._slot_table.free) > kept
            preempts = self._memory is not None and yielding(tenant.key) is not None
            return len(self._slot_table.free) > 0 or preempts

        return self.waiting.first(may_run)

    def _fits(self, group: SequenceGroup) -> bool:
        """Whether there are enough tokens for a group. A preempted one has kept its reservation."""
        tenant = group.request.tenant
        holds = any(sequence.tenant == tenant for sequence in self._slot_table.running)
        kept = self._headroom_tokens * (holds and tenant != ANONYMOUS)
        return bool(group.preempted) or group.tokens <= self.free_tokens - kept

    def _preempt_for(self, tenant: Tenant) -> None:
        """Preempts a sequence in favour of a tenant: moves its slot's contents to the host.

        Its tokens stay reserved, so that it needs nothing but a slot to resume.
        """
        sequence = SlotHoldings(self._slot_table.running).victim_for(tenant.key)
        assert sequence is not None and self._memory is not None, "or nobody may run"  # noqa: S101, PT018 - an invariant
        if sequence.computed:
            sequence.saved_kv = self._memory.read(sequence.slot, 0, sequence.computed)
        sequence.group.running.remove(sequence)
        sequence.group.preempted.append(sequence)
        self._slot_table.take_out(sequence)
        self.waiting.append(sequence.group)

    def _resume(self, group: SequenceGroup) -> None:
        sequence, slot = group.preempted[-1], self._slot_table.next_free
        if self._memory is not None and sequence.saved_kv is not None:
            self._memory.write(slot, 0, sequence.saved_kv, sequence.computed)
            sequence.saved_kv = None
        group.preempted.pop()
        sequence.slot = self._slot_table.occupy(slot)
        group.running.append(sequence)
        if sequence.output:
            self._slot_table.place(sequence)
        else:
            self.prefilling.append(sequence)
        if group.preempted or group.waiting:
            self.waiting.append(group)

    def _take_slot(self, group: SequenceGroup) -> SequenceState:
        # Created first: should this fail, no slot is taken.
        sequence = self._sequence(group, self._slot_table.next_free)
        self._slot_table.occupy(sequence.slot)
        self.free_tokens -= group.tokens
        return sequence

    def _sequence(self, group: SequenceGroup, slot: int) -> SequenceState:
        return SequenceState(group, slot, self._vocabulary, self._ends)

    def _fork(self, group: SequenceGroup) -> SequenceState:
        computed, slot = len(group.request.prompt), self._slot_table.next_free
        self._runner.copy(group.running[0].slot, slot, computed)
        try:
            sequence = self._take_slot(group)
        except BaseException:
            self._runner.release(slot, computed)
            raise
        sequence.computed = computed
        self._slot_table.place(sequence)
        if group.waiting:
            # At the end, so that a group with many choices does not hold up the others.
            self.waiting.append(group)
        return sequence
