"""Prefixes of prompts between slots and the store: what sequences reuse, and what they leave."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rapport.service.engine.kv.prefix_store import BLOCK_TOKENS, PrefixStore, SlotMemory
from rapport.service.engine.sequences import SequenceState
from rapport.service.engine.stats import PrefixStats

log = logging.getLogger(__name__)


class PrefixCache:
    """Moves prefixes between the slots of a runner and a store."""

    def __init__(self, store: PrefixStore, memory: SlotMemory) -> None:
        self._store = store
        self._memory = memory
        self._hits = 0
        self._misses = 0

    @property
    def stats(self) -> PrefixStats:
        """For any thread."""
        store = self._store
        return PrefixStats(
            self._hits, self._misses, store.evictions, len(store), store.bytes, store.budget
        )

    def load(self, namespace: str, tokens: Sequence[int], slot: int, computed: int) -> int:
        """Puts into a slot that holds `computed` of `tokens` what is stored of the others.

        Two tokens at least are left to compute: the last one's logits are needed, and a
        run of a single token rounds otherwise than the run of many that it stands for.
        Returns how many tokens the slot holds then.
        """
        start = 0
        for data, count in self._store.match(namespace, tokens[: max(len(tokens) - 2, 0)]):
            if start + count > computed:
                self._memory.write(slot, start, data, count)
            start += count
        if computed == 0:
            self._hits += start > 0
            self._misses += start == 0
        return max(computed, start)

    def save(
        self, namespace: str, tokens: Sequence[int], slot: int, *, ended: bool = False
    ) -> None:
        """Stores the blocks of `tokens`, all of which the slot holds.

        The last tokens, which fill no block, are stored once the text has `ended`.
        """
        self._store.extend(
            namespace,
            tokens,
            lambda place, count: self._memory.read(slot, place * BLOCK_TOKENS, count),
            ended=ended,
        )


class PrefixReuse:
    """Loads and saves the prefixes of sequences, where any are kept.

    Deterministic engines keep those of prompts only: decoded tokens are rounded otherwise.
    """

    def __init__(self, prefixes: PrefixCache | None, *, deterministic: bool) -> None:
        self._prefixes = prefixes
        self._deterministic = deterministic

    def load(self, sequence: SequenceState) -> int:
        """Fills the sequence's slot as far as is known. Returns how many tokens that saves."""
        if self._prefixes is None:
            return 0
        request, before = sequence.group.request, sequence.computed
        sequence.computed = self._prefixes.load(
            request.namespace, request.prompt, sequence.slot, before
        )
        return sequence.computed - before

    def save(self, sequence: SequenceState, *, ended: bool = False) -> None:
        """Keeps what the sequence's slot holds; its last tokens only once it has `ended`."""
        if self._prefixes is None:
            return
        request, tokens = sequence.group.request, sequence.tokens_held
        if self._deterministic:
            tokens = tokens[: len(request.prompt)]
        try:
            self._prefixes.save(request.namespace, tokens, sequence.slot, ended=ended)
        except MemoryError:
            log.warning("no memory to keep a prefix in")
