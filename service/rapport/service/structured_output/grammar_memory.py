"""A bound on the memory of all compiled grammars that are in use or kept."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import NamedTuple
from weakref import WeakKeyDictionary

from rapport.service.engine.sampling.constraint import Grammar

# Of all callers together. One caller may hold half of it.
MAX_BYTES = 1 << 30


class _Holding(NamedTuple):
    caller: str
    size_bytes: int


class GrammarMemory:
    """Knows who had which grammar compiled, for as long as it exists. For any thread.

    A caller may hold as much as is free, so that it always leaves room for another.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._holdings: WeakKeyDictionary[Grammar, _Holding] = WeakKeyDictionary()
        self._lock = Lock()

    def has_room(self, caller: str, size_bytes: int) -> bool:
        """Whether the caller may have another grammar of this size."""
        held: Counter[str] = Counter()
        with self._lock:
            for holding in self._holdings.values():
                held[holding.caller] += holding.size_bytes
        return held[caller] + size_bytes <= self._max_bytes - held.total()

    def add(self, grammar: Grammar, caller: str, size_bytes: int) -> None:
        """Counts a grammar for the caller that had it compiled first."""
        with self._lock:
            self._holdings.setdefault(grammar, _Holding(caller, size_bytes))
