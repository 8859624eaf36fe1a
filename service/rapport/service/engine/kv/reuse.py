"""What sequences take over from earlier prompts, and what they leave for later ones."""

from __future__ import annotations

import logging

from rapport.service.engine.kv.prefix_cache import PrefixCache
from rapport.service.engine.sequences import SequenceState

log = logging.getLogger(__name__)


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
