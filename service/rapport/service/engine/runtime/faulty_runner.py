"""A runner, and a vocabulary, that fail on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rapport.service.engine.kv.prefix_store import SlotMemory
from rapport.service.engine.runtime.faults import Fault, with_faults
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.text.vocabulary import Vocabulary


class FaultyRunner:
    """A runner with faults injected into its methods."""

    def __init__(self, runner: Runner, faults: Iterable[Fault]) -> None:
        faults = tuple(faults)
        self.pace = runner.pace
        self.slots = runner.slots
        self.slot_tokens = runner.slot_tokens
        self.kept_slots = runner.kept_slots
        memory = runner.memory
        self.memory: SlotMemory | None = None if memory is None else FaultyMemory(memory, faults)
        self.decode = with_faults(runner.decode, "decode", faults)
        self.prefill = with_faults(runner.prefill, "prefill", faults)
        self.verify = with_faults(runner.verify, "verify", faults)
        self.copy = with_faults(runner.copy, "copy", faults)
        self.exchange = with_faults(runner.exchange, "exchange", faults)
        self.release = runner.release


class FaultyMemory:
    """Slot memory with faults injected into its methods."""

    def __init__(self, memory: SlotMemory, faults: Iterable[Fault]) -> None:
        self.read = with_faults(memory.read, "read", faults)
        self.write = with_faults(memory.write, "write", faults)


class FaultyBytes(Sequence[bytes]):
    """A table of the bytes of each token, with faults injected into look-ups."""

    def __init__(self, table: Sequence[bytes], faults: Iterable[Fault]) -> None:
        self._table = table
        self._look_up = with_faults(table.__getitem__, "text", faults)

    def __getitem__(self, token: Any) -> Any:
        return self._look_up(token)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def inject_text_faults(vocabulary: Vocabulary, faults: Iterable[Fault]) -> None:
    """Makes a vocabulary fail at the point `text`."""
    vocabulary.token_bytes = FaultyBytes(vocabulary.token_bytes, faults)
