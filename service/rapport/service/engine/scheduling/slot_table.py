"""Which sequence is in which slot.

Decoding sequences fill the first slots without a gap, so that one run covers them all: the sequence
at index i of `decoding` is in slot i. Prefilling sequences are in later slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.sequences import SequenceState


@dataclass(slots=True)
class SlotCounters:
    """How often slots were taken and released; equal whenever nothing runs."""

    taken: int = 0
    released: int = 0

    def __str__(self) -> str:
        return f"{self.taken} taken, {self.released} released"


class SlotTable:
    """Keeps the decoding sequences without gaps, and frees the memory of slots they leave."""

    def __init__(self, runner: Runner) -> None:
        self.prefilling: list[SequenceState] = []
        self.decoding: list[SequenceState] = []
        self.free = set(range(runner.slots))
        self.counters = SlotCounters()
        self._runner = runner

    @property
    def running(self) -> Iterator[SequenceState]:
        return chain(self.decoding, self.prefilling)

    @property
    def next_free(self) -> int:
        """The slot to take next: the first, as this is likely where the sequence will decode."""
        return min(self.free)

    def tokens_in(self, slot: int) -> int:
        """How many tokens a slot holds."""
        held = (sequence.computed for sequence in self.running if sequence.slot == slot)
        return next(held, 0)

    def occupy(self, slot: int) -> int:
        self.free.remove(slot)
        self.counters.taken += 1
        return slot

    def place(self, sequence: SequenceState) -> None:
        """Adds a sequence to the decoding ones, and moves it to the slot after theirs."""
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

    def replace(self, sequence: SequenceState, successor: SequenceState) -> None:
        """Gives a decoding sequence's slot to a successor, which keeps the first tokens in it."""
        self.counters.released += 1
        self.counters.taken += 1
        self.decoding[successor.slot] = successor
        self._runner.release(successor.slot, sequence.computed, kept=successor.computed)

    def take_out(self, sequence: SequenceState) -> None:
        if sequence in self.prefilling:
            self.prefilling.remove(sequence)
            self._release(sequence)
        else:
            self._vacate(sequence)

    def _vacate(self, sequence: SequenceState) -> None:
        """Removes a decoding sequence; the last one moves into its slot."""
        self._release(sequence)
        last = self.decoding.pop()
        if last is not sequence:
            self.decoding[sequence.slot] = last
            self._move(last, sequence.slot)

    def _release(self, sequence: SequenceState) -> None:
        # A prefix that was only partly written is not counted in `computed`.
        written = max(sequence.computed, len(sequence.group.request.prompt))
        self._runner.release(sequence.slot, written)
        self.free.add(sequence.slot)
        self.counters.released += 1

    def _move(self, sequence: SequenceState, slot: int) -> None:
        self._runner.copy(sequence.slot, slot, sequence.computed)
        self._runner.release(sequence.slot, sequence.computed)
        self.free.remove(slot)
        self.free.add(sequence.slot)
        sequence.slot = slot
