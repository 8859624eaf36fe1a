"""Who runs next: jobs wait in line, sequences prefill, then decode.

Tenants that have been served least go first. One alone may have all slots; when another
comes, a sequence of the first is parked: what its slot holds waits in the host's memory.
Where the host cannot reach the slots, the last ones are kept for tenants that have none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from functools import cache
from math import ceil

from rapport.service.engine.request import NOBODY, Tenant
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.scheduling.fairness import Ledger
from rapport.service.engine.scheduling.preemption import Holdings
from rapport.service.engine.scheduling.slots import Slots
from rapport.service.engine.scheduling.waiting_queue import Line
from rapport.service.engine.sequence import Job, Sequence
from rapport.service.engine.text.vocabulary import Vocabulary

# A prompt that others overtook for this long, in seconds, goes first.
PATIENCE = 2.0
# Of so many tokens, one is kept for tenants that have no slot; and of so many slots, where
# nobody can be parked. Of very few slots none is. Where nobody says who asks, nothing is kept.
RESERVED = 8
FEW_SLOTS = 3


class Scheduler:
    """Gives slots to sequences and takes them back. `budget` is in tokens over all slots."""

    def __init__(
        self, runner: Runner, vocabulary: Vocabulary, ends: Collection[int], budget: int
    ) -> None:
        self.ledger = Ledger()
        self.waiting = Line(self.ledger)
        self._places = Slots(runner)
        self.prefilling, self.decoding = self._places.prefilling, self._places.decoding
        self.counters = self._places.counters
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

    @property
    def idle(self) -> bool:
        return not (len(self.waiting) or self.prefilling or self.decoding)

    @property
    def reserved(self) -> int:
        """Tokens that the sequences in slots may grow to."""
        return self.budget - self._budget

    def held(self, slot: int) -> int:
        """How many tokens of a prompt a slot behind the decoding ones holds."""
        return self._places.held(slot)

    def admit(self) -> Iterator[Job]:
        """The jobs that may have a slot; `start` gives it to each before the next is asked for."""
        if not self.waiting:
            return  # as in most steps: who holds what need not be counted
        for newcomers_only in (False, True):
            # Those behind one that does not fit must not take what it waits for, but what is
            # kept for those who hold no slot is not that.
            while (job := self._next_job(newcomers_only=newcomers_only)) and self._fits(job):
                yield job
        # What was parked needs no tokens, and gives some back in the end.
        while self._places.free and (job := self.waiting.parked()):
            yield job

    def start(self, job: Job, begin: Callable[[Job], None]) -> Sequence | None:
        """Gives a job a slot; `begin` is told when it is the first.

        Returns a choice that is ready for its first token, where another one has computed the
        prompt. Where the runner fails to copy something, the job has to be dropped.
        """
        if not self._places.free:
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
        self._places.place(sequence)
        if sequence.job.waiting:
            self.waiting.append(sequence.job)

    def hand_over(self, sequence: Sequence) -> Sequence | None:
        """Gives a finished choice's place and slot to the next one of its job, which it returns.

        That is while it is the last to hold a prompt that other choices need; else it is for
        `finish` to take out. Where the next one cannot be made, the job has to be dropped.
        """
        job = sequence.job
        if not job.waiting or job.running != [sequence]:
            return None
        heir = self._sequence(job, sequence.slot)
        heir.computed = len(job.request.prompt)
        job.running.remove(sequence)
        self._places.replace(sequence, heir)
        if not (job.waiting or job.parked):
            self.waiting.remove(job)
        return heir

    def finish(self, sequence: Sequence) -> None:
        """Takes a decoding sequence out."""
        sequence.job.running.remove(sequence)
        self._places.take_out(sequence)
        self._budget += sequence.job.tokens

    def drop(self, job: Job) -> None:
        """Takes a job out, wherever it is."""
        for sequence in tuple(job.running):
            job.running.remove(sequence)
            self._places.take_out(sequence)
            self._budget += job.tokens
        self._budget += len(job.parked) * job.tokens
        job.parked.clear()
        self.waiting.remove(job)

    def _next_job(self, *, newcomers_only: bool) -> Job | None:
        """The first in line for whose tenant there is a slot, free or another's."""
        holdings = Holdings(self._places.running)
        yielding = cache(holdings.yielding_to)

        def may_run(tenant: Tenant) -> bool:
            if holdings.has(tenant):
                kept = self._reserved_slots * (tenant != NOBODY)
                return not newcomers_only and len(self._places.free) > kept
            parks = self._memory is not None and yielding(tenant.key) is not None
            return len(self._places.free) > 0 or parks

        return self.waiting.first(may_run)

    def _fits(self, job: Job) -> bool:
        """Whether there are tokens for a job; what was parked has kept its own."""
        tenant = job.request.tenant
        holds = any(sequence.tenant == tenant for sequence in self._places.running)
        kept = self._reserved_tokens * (holds and tenant != NOBODY)
        return bool(job.parked) or job.tokens <= self._budget - kept

    def _park_for(self, tenant: Tenant) -> None:
        """Moves what a slot holds to the host's memory; the sequence waits in line again.

        Its tokens stay reserved, so that it needs nothing but a slot to go on.
        """
        sequence = Holdings(self._places.running).yielding_to(tenant.key)
        assert sequence is not None and self._memory is not None, "or nobody may run"  # noqa: S101, PT018 - an invariant
        if sequence.computed:
            sequence.kept = self._memory.read(sequence.slot, 0, sequence.computed)
        sequence.job.running.remove(sequence)
        sequence.job.parked.append(sequence)
        self._places.take_out(sequence)
        self.waiting.append(sequence.job)

    def _resume(self, job: Job) -> None:
        sequence, slot = job.parked[-1], self._places.next_free
        if self._memory is not None and sequence.kept is not None:
            self._memory.write(slot, 0, sequence.kept, sequence.computed)
            sequence.kept = None
        job.parked.pop()
        sequence.slot = self._places.occupy(slot)
        job.running.append(sequence)
        if sequence.output:
            self._places.place(sequence)
        else:
            self.prefilling.append(sequence)
        if job.parked or job.waiting:
            self.waiting.append(job)

    def _take_slot(self, job: Job) -> Sequence:
        # Made first: should that fail, no slot is taken.
        sequence = self._sequence(job, self._places.next_free)
        self._places.occupy(sequence.slot)
        self._budget -= job.tokens
        return sequence

    def _sequence(self, job: Job, slot: int) -> Sequence:
        return Sequence(job, slot, self._vocabulary, self._ends)

    def _fork(self, job: Job) -> Sequence:
        computed, slot = len(job.request.prompt), self._places.next_free
        self._runner.copy(job.running[0].slot, slot, computed)
        try:
            sequence = self._take_slot(job)
        except BaseException:
            self._runner.release(slot, computed)
            raise
        sequence.computed = computed
        self._places.place(sequence)
        if job.waiting:
            # Behind the others, so that one job with many choices does not hold them up.
            self.waiting.append(job)
        return sequence
