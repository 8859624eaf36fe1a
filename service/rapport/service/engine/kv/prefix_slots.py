"""Keeps prefixes of prompts in slots of a GPU's memory, and copies them within it.

There a copy takes less time than one to the host and back, and a whole slot for each prefix is no
waste: what a slot holds beyond the prefix would be free otherwise.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rapport.service.engine.stats import PrefixStats

# A shorter prefix is computed as fast as it is copied.
MIN_PREFIX_TOKENS = 16


class SlotCopier(Protocol):
    """Copies between slots."""

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copies the tokens of a slot from `start` to `length` to another."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A prefix and the slot that holds it."""

    namespace: str
    tokens: NDArray[np.int64]
    slot: int


class PrefixSlots:
    """Prefixes in slots of their own; the least recently used one makes room for another.

    Namespaces share nothing, as in `PrefixStore`.
    """

    def __init__(
        self, copier: SlotCopier, slots: range, token_bytes: int, slot_tokens: int
    ) -> None:
        self._copier = copier
        self._free = list(slots)
        self._token_bytes = token_bytes
        self._budget = len(slots) * slot_tokens * token_bytes
        self._recent: OrderedDict[Entry, None] = OrderedDict()
        self._hits = self._misses = self._evictions = 0

    @property
    def stats(self) -> PrefixStats:
        """The state of the slots, where each prefix counts as a block. For any thread."""
        held = sum(len(entry.tokens) for entry in tuple(self._recent)) * self._token_bytes
        return PrefixStats(
            self._hits, self._misses, self._evictions, len(self._recent), held, self._budget
        )

    def load(self, namespace: str, tokens: Sequence[int], slot: int, computed: int) -> int:
        """Fills a slot, which holds `computed` of `tokens`, with what is kept of the rest.

        At least two tokens are left to compute, as in `PrefixCache`.

        Returns:
            How many tokens the slot then holds.
        """
        entry, length = self._closest(namespace, np.array(tokens[: max(len(tokens) - 2, 0)]))
        found = entry is not None and length >= max(MIN_PREFIX_TOKENS, computed + 1)
        if computed == 0:
            self._hits += found
            self._misses += not found
        if entry is None or not found:
            return computed
        self._copier.copy(entry.slot, slot, length, computed)
        self._recent.move_to_end(entry)
        return length

    def save(
        self, namespace: str, tokens: Sequence[int], slot: int, *, ended: bool = False
    ) -> None:
        """Keeps `tokens`, all of which the slot holds, whether or not the text has `ended`.

        A prefix that they continue is not kept beside them.
        """
        del ended
        if len(tokens) < MIN_PREFIX_TOKENS:
            return
        wanted = np.array(tokens)
        entry, length = self._closest(namespace, wanted)
        if entry is not None and length == len(wanted):
            self._recent.move_to_end(entry)
            return
        if entry is not None and length == len(entry.tokens):
            target, start = self._remove(entry), length
        else:
            target, start = self._take_slot(), 0
        try:
            self._copier.copy(slot, target, len(wanted), start)
        except BaseException:
            self._free.append(target)
            raise
        self._recent[Entry(namespace, wanted, target)] = None

    def _closest(self, namespace: str, tokens: NDArray[np.int64]) -> tuple[Entry | None, int]:
        """The entry with the longest common prefix with `tokens`, and the prefix's length."""
        closest, longest = None, 0
        for entry in self._recent:
            if entry.namespace == namespace:
                length = _common_prefix(entry.tokens, tokens)
                if length > longest:
                    closest, longest = entry, length
        return closest, longest

    def _take_slot(self) -> int:
        if not self._free:
            self._evictions += 1
            self._free.append(self._remove(next(iter(self._recent))))
        return self._free.pop()

    def _remove(self, entry: Entry) -> int:
        """Forgets an entry. Returns its slot."""
        del self._recent[entry]
        return entry.slot


def _common_prefix(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    count = min(len(one), len(other))
    differing = np.flatnonzero(one[:count] != other[:count])
    return int(differing[0]) if len(differing) else count
