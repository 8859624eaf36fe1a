"""Copies prefixes of prompts from the store into slots, and from slots into the store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from rapport.service.engine.kv.prefix_store import BLOCK_TOKENS, PrefixStore, SlotMemory
from rapport.service.engine.sequences import SequenceState
from rapport.service.engine.stats import PrefixStats

log = logging.getLogger(__name__)


class PromptCache(Protocol):
    """Keeps prefixes of prompts, and fills slots with them."""

    @property
    def stats(self) -> PrefixStats:
        """What is kept, and the hits so far. For any thread."""

    def load(self, namespace: str, tokens: Sequence[int], slot: int, computed: int) -> int:
        """Fills a slot, which holds `computed` of `tokens`; returns how many it then holds."""

    def save(
        self, namespace: str, tokens: Sequence[int], slot: int, *, ended: bool = False
    ) -> None:
        """Keeps `tokens`, all of which the slot holds, for later prompts."""


class PrefixCache:
    """Copies prefixes between the slots of a runner and a store, and counts hits."""

    def __init__(self, store: PrefixStore, memory: SlotMemory) -> None:
        self._store = store
        self._memory = memory
        self._hits = 0
        self._misses = 0

    @property
    def stats(self) -> PrefixStats:
        """The state of the store, and the hits so far. For any thread."""
        store = self._store
        return PrefixStats(
            self._hits, self._misses, store.evictions, len(store), store.bytes, store.budget
        )

    def load(self, namespace: str, tokens: Sequence[int], slot: int, computed: int) -> int:
        """Fills a slot, which holds `computed` of `tokens`, with what is stored of the rest.

        At least two tokens are left to compute: the logits of the last one are needed, and a
        step with a single token rounds differently from one with several, as a prefill has.

        Returns:
            How many tokens the slot then holds.
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

        A last block that is not full is stored only if the text has `ended`.
        """
        self._store.extend(
            namespace,
            tokens,
            lambda index, count: self._memory.read(slot, index * BLOCK_TOKENS, count),
            ended=ended,
        )


class PrefixReuse:
    """Loads and saves the prefixes of sequences; without a cache, does nothing.

    A deterministic engine saves what was computed as prompts are, for all else rounds differently.
    """

    def __init__(self, prefixes: PromptCache | None, *, deterministic: bool) -> None:
        self._prefixes = prefixes
        self._deterministic = deterministic

    def load(self, sequence: SequenceState) -> int:
        """Fills the sequence's slot from the cache. Returns how many tokens came from there."""
        if self._prefixes is None:
            return 0
        request, before = sequence.group.request, sequence.computed
        if sequence.is_scoring:
            return 0
        sequence.computed = self._prefixes.load(
            request.namespace, request.prompt[: request.unscored_tokens], sequence.slot, before
        )
        return sequence.computed - before

    def save(self, sequence: SequenceState, *, ended: bool = False) -> None:
        """Saves what the sequence's slot holds; a block that is not full only if it has `ended`."""
        if self._prefixes is None:
            return
        request, tokens = sequence.group.request, sequence.tokens_held
        if self._deterministic:
            tokens = tokens[: request.unscored_tokens]
        try:
            self._prefixes.save(request.namespace, tokens, sequence.slot, ended=ended)
        except MemoryError:
            log.warning("a prefix was not cached: out of memory")
