"""Who runs next: jobs wait in line, sequences prefill, then decode.

Tenants that have been served least go first. One tenant cannot take the last slots, so
that another one finds some when it comes.

Decoding sequences are a dense prefix of the slots, so that one run covers them all: the
sequence at place i of `decoding` is in slot i. Prefilling ones are in slots behind.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from math import ceil

from service.engine.fairness import Ledger
from service.engine.line import Line
from service.engine.runner import Runner
from service.engine.sequence import Job, Sequence
from service.engine.vocabulary import Vocabulary

# A prompt that others overtook for this long, in seconds, goes first.
PATIENCE = 2.0
# Of so many slots, one is kept for tenants that have none; of very few, none is.
SLOTS_PER_RESERVED = 8
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
        self._budget = budget
        self._slots = runner.slots
        self._reserved = ceil(runner.slots / SLOTS_PER_RESERVED) * (runner.slots > FEW_SLOTS)
        self._free = set(range(runner.slots))

    @property
    def idle(self) -> bool:
        return not (len(self.waiting) or self.prefilling or self.decoding)

    def held(self, slot: int) -> int:
        """How many tokens of a prompt a slot behind the decoding ones holds."""
        held = (sequence.computed for sequence in self.prefilling if sequence.slot == slot)
        return next(held, 0)

    def admit(self, begin: Callable[[Job], None]) -> Iterator[Job]:
        """Gives free slots to waiting jobs; `begin` is told when a job gets its first.

        Yields the jobs whose prompt another choice has computed: `fork` gives them theirs.
        """
        while self._free and (job := self.waiting.first(self._may_run)) is not None:
            if job.tokens > self._budget:
                return  # those behind must not take what it waits for
            self.waiting.remove(job)
            if job.prompt_logits is None:
                begin(job)
                self.prefilling.append(self._take_slot(job))
            else:
                yield job

    def fork(self, job: Job) -> Sequence:
        """Gives a job's next choice a slot and what is computed: it is ready for its first token.

        If the runner fails to copy that, nothing has changed but that the job no longer waits.
        """
        computed, slot = len(job.request.prompt), min(self._free)
        self._runner.copy(job.running[0].slot, slot, computed)
        sequence = self._take_slot(job, slot)
        sequence.computed = computed
        self._place(sequence)
        if job.waiting:
            # Behind the others, so that one job with many choices does not hold them up.
            self.waiting.append(job)
        return sequence

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

    def crowded_out(self, tenant: str) -> bool:
        """Whether another tenant decodes in more than half of the slots."""
        others = Counter(sequence.tenant for sequence in self.decoding)
        return any(2 * count > self._slots for other, count in others.items() if other != tenant)

    def promote(self, sequence: Sequence) -> None:
        """Makes a sequence whose prompt is computed a decoding one; its siblings queue up."""
        self.prefilling.remove(sequence)
        self._place(sequence)
        if sequence.job.waiting:
            self.waiting.append(sequence.job)

    def finish(self, sequence: Sequence) -> Sequence | None:
        """Takes a decoding sequence out.

        While it is the last to hold a prompt that other choices need, the next of them
        takes its place and slot at once, and is returned.
        """
        job = sequence.job
        job.running.remove(sequence)
        if job.waiting and not job.running:
            return self._hand_over(sequence)
        self._vacate(sequence)
        return None

    def drop(self, job: Job) -> None:
        """Takes a job out, wherever it is."""
        for sequence in tuple(job.running):
            job.running.remove(sequence)
            if sequence in self.prefilling:
                self.prefilling.remove(sequence)
                self._release_slot(sequence)
            else:
                self._vacate(sequence)
        self.waiting.remove(job)

    def _may_run(self, job: Job) -> bool:
        """Whether a job may have a slot: the last ones are for named tenants that have none."""
        tenant = job.request.tenant
        if not tenant or len(self._free) > self._reserved:
            return True
        return all(sequence.tenant != tenant for sequence in (*self.decoding, *self.prefilling))

    def _take_slot(self, job: Job, slot: int | None = None) -> Sequence:
        slot = min(self._free) if slot is None else slot
        self._free.remove(slot)
        self._budget -= job.tokens
        self.counters.taken += 1
        return Sequence(job, slot, self._vocabulary, self._ends)

    def _release_slot(self, sequence: Sequence) -> None:
        self._runner.release(sequence.slot, sequence.computed)
        self._free.add(sequence.slot)
        self._budget += sequence.job.tokens
        self.counters.released += 1

    def _hand_over(self, sequence: Sequence) -> Sequence:
        self._budget += sequence.job.tokens
        self.counters.released += 1
        self._free.add(sequence.slot)
        heir = self._take_slot(sequence.job, sequence.slot)
        heir.computed = len(sequence.job.request.prompt)
        self.decoding[heir.slot] = heir
        if not heir.job.waiting:
            self.waiting.remove(heir.job)
        return heir

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
