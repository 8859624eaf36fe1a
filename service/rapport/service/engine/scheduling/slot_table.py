"""Which sequence is in which slot.

Decoding sequences are a dense prefix of the slots, so that one run covers them all: the
sequence at place i of `decoding` is in slot i. Prefilling ones are in slots behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.sequences import SequenceState


@dataclass(slots=True)
class SlotCounters:
    """Slots ever taken and ever released; equal whenever nothing runs."""

    taken: int = 0
    released: int = 0

    def __str__(self) -> str:
        return f"{self.taken} taken, {self.released} released"


class SlotTable:
    """Keeps the decoding sequences dense, and gives back the memory of slots that are left."""

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
        """The slot to take next: the first, which is likely where a decoding one has to be."""
        return min(self.free)

    def prompt_tokens_in(self, slot: int) -> int:
        """How many tokens of a prompt a slot behind the decoding ones holds."""
        held = (sequence.computed for sequence in self.prefilling if sequence.slot == slot)
        return next(held, 0)

    def occupy(self, slot: int) -> int:
        self.free.remove(slot)
        self.counters.taken += 1
        return slot

    def place(self, sequence: SequenceState) -> None:
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

    def replace(self, sequence: SequenceState, successor: SequenceState) -> None:
        """Puts another in the place and slot of a decoding sequence, whose first tokens it has."""
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
        """Removes a decoding sequence; the last one fills its place."""
        self._release(sequence)
        last = self.decoding.pop()
        if last is not sequence:
            self.decoding[sequence.slot] = last
            self._move(last, sequence.slot)

    def _release(self, sequence: SequenceState) -> None:
        # A prefix that could be written in part alone is not counted as computed.
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
