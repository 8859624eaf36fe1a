"""Who runs next: jobs wait in line, sequences prefill, then decode.

Tenants that have been served least go first. One alone may have all slots; when another
comes, a sequence of the first is parked: what its slot holds waits in the host's memory.
Where the host cannot reach the slots, the last ones are kept for tenants that have none.

Decoding sequences are a dense prefix of the slots, so that one run covers them all: the
sequence at place i of `decoding` is in slot i. Prefilling ones are in slots behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from math import ceil

from service.engine.fairness import Ledger
from service.engine.holdings import Holdings
from service.engine.line import Line
from service.engine.request import NOBODY, Tenant
from service.engine.runner import Runner
from service.engine.sequence import Job, Sequence
from service.engine.vocabulary import Vocabulary

# A prompt that others overtook for this long, in seconds, goes first.
PATIENCE = 2.0
# Of so many tokens, one is kept for tenants that have no slot; and of so many slots, where
# nobody can be parked. Of very few slots none is. Where nobody says who asks, nothing is kept.
RESERVED = 8
FEW_SLOTS = 3


@dataclass(slots=True)
class SlotCounters:
    """Slots ever taken and ever released; equal whenever nothing runs."""

    taken: int = 0
    released: int = 0

    def __str__(self) -> str:
        return f"{self.taken} taken, {self.released} released"


class Scheduler:
    """Gives slots to sequences and takes them back. `budget` is in tokens over all slots."""

    def __init__(
        self, runner: Runner, vocabulary: Vocabulary, ends: Collection[int], budget: int
    ) -> None:
        self.ledger = Ledger()
        self.waiting = Line(self.ledger)
        self.prefilling: list[Sequence] = []
        self.decoding: list[Sequence] = []
        self.counters = SlotCounters()
        self._runner = runner
        self._vocabulary = vocabulary
        self._ends = ends
        self.budget = budget
        self._budget = budget
        self.slots = runner.slots
        self._memory = runner.memory
        kept = runner.memory is None and runner.slots > FEW_SLOTS
        self._reserved_slots = ceil(runner.slots / RESERVED) * kept
        self._reserved_tokens = budget // RESERVED
        self._free = set(range(runner.slots))

    @property
    def idle(self) -> bool:
        return not (len(self.waiting) or self.prefilling or self.decoding)

    @property
    def reserved(self) -> int:
        """Tokens that the sequences in slots may grow to."""
        return self.budget - self._budget

    def held(self, slot: int) -> int:
        """How many tokens of a prompt a slot behind the decoding ones holds."""
        held = (sequence.computed for sequence in self.prefilling if sequence.slot == slot)
        return next(held, 0)

    def admit(self) -> Iterator[Job]:
        """The jobs that may have a slot; `start` gives it to each before the next is asked for."""
        for newcomers_only in (False, True):
            # Those behind one that does not fit must not take what it waits for, but what is
            # kept for those who hold no slot is not that.
            while (job := self._next_job(newcomers_only=newcomers_only)) and self._fits(job):
                yield job
        # What was parked needs no tokens, and gives some back in the end.
        while self._free and (job := self.waiting.parked()):
            yield job

    def start(self, job: Job, begin: Callable[[Job], None]) -> Sequence | None:
        """Gives a job a slot; `begin` is told when it is the first.

        Returns a choice that is ready for its first token, where another one has computed the
        prompt. Where the runner fails to copy something, the job has to be dropped.
        """
        if not self._free:
            self._park_for(job.request.tenant)
        self.waiting.remove(job)
        if job.parked:
            self._resume(job)
        elif job.prompt_logits is None:
            begin(job)
            self.prefilling.append(self._take_slot(job))
        else:
            return self._fork(job)
        return None

    def next_prefill(self) -> Sequence | None:
        """The sequence whose prompt goes on.

        Of the least served tenant, the one with the shortest rest, unless one waited too long.
        """
        if not self.prefilling:
            return None
        tenant = min((sequence.tenant for sequence in self.prefilling), key=self.ledger.served)
        own = [sequence for sequence in self.prefilling if sequence.tenant == tenant]
        eldest = min(own, key=lambda sequence: sequence.began)
        if time.monotonic() - eldest.began > PATIENCE:
            return eldest
        return min(own, key=lambda sequence: sequence.remaining_prompt)

    def crowded_out(self, tenant: Tenant) -> bool:
        """Whether most of what is decoded is another tenant's."""
        return 2 * Holdings(self.decoding).most_of_another(tenant) > len(self.decoding)

    @property
    def newcomer(self) -> bool:
        """Whether the prompt that goes on is a crowded out tenant's and not begun."""
        sequence = self.next_prefill()
        return sequence is not None and not sequence.computed and self.crowded_out(sequence.tenant)

    def promote(self, sequence: Sequence) -> None:
        """Makes a sequence whose prompt is computed a decoding one; its siblings queue up."""
        self.prefilling.remove(sequence)
        self._place(sequence)
        if sequence.job.waiting:
            self.waiting.append(sequence.job)

    def hand_over(self, sequence: Sequence) -> Sequence | None:
        """Gives a finished choice's place and slot to the next one of its job, which it returns.

        That is while it is the last to hold a prompt that other choices need; else it is for
        `finish` to take out. Where the next one cannot be made, the job has to be dropped.
        """
        job, computed = sequence.job, len(sequence.job.request.prompt)
        if not job.waiting or job.running != [sequence]:
            return None
        heir = self._sequence(job, sequence.slot)
        heir.computed = computed
        job.running.remove(sequence)
        self.counters.released += 1
        self.counters.taken += 1
        self.decoding[heir.slot] = heir
        self._runner.release(heir.slot, sequence.computed, kept=computed)
        if not (job.waiting or job.parked):
            self.waiting.remove(job)
        return heir

    def finish(self, sequence: Sequence) -> None:
        """Takes a decoding sequence out."""
        sequence.job.running.remove(sequence)
        self._vacate(sequence)
        self._budget += sequence.job.tokens

    def drop(self, job: Job) -> None:
        """Takes a job out, wherever it is."""
        for sequence in tuple(job.running):
            job.running.remove(sequence)
            self._take_out(sequence)
            self._budget += job.tokens
        self._budget += len(job.parked) * job.tokens
        job.parked.clear()
        self.waiting.remove(job)

    @property
    def _running(self) -> Iterator[Sequence]:
        return chain(self.decoding, self.prefilling)

    def _next_job(self, *, newcomers_only: bool) -> Job | None:
        """The first in line for whose tenant there is a slot, free or another's."""
        holdings = Holdings(self._running)
        yielding = cache(holdings.yielding_to)

        def may_run(tenant: Tenant) -> bool:
            if holdings.has(tenant):
                kept = self._reserved_slots * (tenant != NOBODY)
                return not newcomers_only and len(self._free) > kept
            parks = self._memory is not None and yielding(tenant.key) is not None
            return len(self._free) > 0 or parks

        return self.waiting.first(may_run)

    def _fits(self, job: Job) -> bool:
        """Whether there are tokens for a job; what was parked has kept its own."""
        tenant = job.request.tenant
        holds = any(sequence.tenant == tenant for sequence in self._running)
        kept = self._reserved_tokens * (holds and tenant != NOBODY)
        return bool(job.parked) or job.tokens <= self._budget - kept

    def _park_for(self, tenant: Tenant) -> None:
        """Moves what a slot holds to the host's memory; the sequence waits in line again.

        Its tokens stay reserved, so that it needs nothing but a slot to go on.
        """
        sequence = Holdings(self._running).yielding_to(tenant.key)
        assert sequence is not None and self._memory is not None, "or nobody may run"  # noqa: S101, PT018 - an invariant
        if sequence.computed:
            sequence.kept = self._memory.read(sequence.slot, 0, sequence.computed)
        sequence.job.running.remove(sequence)
        sequence.job.parked.append(sequence)
        self._take_out(sequence)
        self.waiting.append(sequence.job)

    def _resume(self, job: Job) -> None:
        sequence, slot = job.parked[-1], min(self._free)
        if self._memory is not None and sequence.kept is not None:
            self._memory.write(slot, 0, sequence.kept, sequence.computed)
            sequence.kept = None
        job.parked.pop()
        sequence.slot = self._occupy(slot)
        job.running.append(sequence)
        if sequence.output:
            self._place(sequence)
        else:
            self.prefilling.append(sequence)
        if job.parked or job.waiting:
            self.waiting.append(job)

    def _take_slot(self, job: Job) -> Sequence:
        # Made first: should that fail, no slot is taken.
        sequence = self._sequence(job, min(self._free))
        self._occupy(sequence.slot)
        self._budget -= job.tokens
        return sequence

    def _sequence(self, job: Job, slot: int) -> Sequence:
        return Sequence(job, slot, self._vocabulary, self._ends)

    def _occupy(self, slot: int) -> int:
        self._free.remove(slot)
        self.counters.taken += 1
        return slot

    def _release_slot(self, sequence: Sequence) -> None:
        # A prefix that could be written in part alone is not counted as computed.
        written = max(sequence.computed, len(sequence.job.request.prompt))
        self._runner.release(sequence.slot, written)
        self._free.add(sequence.slot)
        self.counters.released += 1

    def _fork(self, job: Job) -> Sequence:
        computed, slot = len(job.request.prompt), min(self._free)
        self._runner.copy(job.running[0].slot, slot, computed)
        try:
            sequence = self._take_slot(job)
        except BaseException:
            self._runner.release(slot, computed)
            raise
        sequence.computed = computed
        self._place(sequence)
        if job.waiting:
            # Behind the others, so that one job with many choices does not hold them up.
            self.waiting.append(job)
        return sequence

    def _place(self, sequence: Sequence) -> None:
        """Appends to the decoding sequences, moving the slot behind theirs."""
        place = len(self.decoding)
        self.decoding.append(sequence)
        if sequence.slot == place:
            return
        occupant = next((other for other in self.prefilling if other.slot == place), None)
        if occupant is None:
            self._move(sequence, place)
            return
        self._runner.exchange(sequence.slot, sequence.computed, place, occupant.computed)
        sequence.slot, occupant.slot = place, sequence.slot

    def _take_out(self, sequence: Sequence) -> None:
        if sequence in self.prefilling:
            self.prefilling.remove(sequence)
            self._release_slot(sequence)
        else:
            self._vacate(sequence)

    def _vacate(self, sequence: Sequence) -> None:
        """Removes a decoding sequence; the last one fills its place."""
        self._release_slot(sequence)
        last = self.decoding.pop()
        if last is not sequence:
            self.decoding[sequence.slot] = last
            self._move(last, sequence.slot)

    def _move(self, sequence: Sequence, slot: int) -> None:
        self._runner.copy(sequence.slot, slot, sequence.computed)
        self._runner.release(sequence.slot, sequence.computed)
        self._free.remove(slot)
        self._free.add(sequence.slot)
        sequence.slot = slot
