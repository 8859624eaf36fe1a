"""What a request changes in logits before a token is drawn: penalties and bias."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.arrays import Floats

# Of a sequence with more, no candidates are computed. `logit_bias` may have as many.
MAX_ADJUSTED_TOKENS = 4096
# What changes no token: to logit 0, that of token 0.
NEUTRAL = np.array([[0], [1], [0]], np.float32)


class LogitAdjustments:
    """Those of one choice, whose tokens it counts. `size` is that of the vocabulary."""

    def __init__(self, sampling: SamplingParams, prompt: Sequence[int], size: int) -> None:
        self._sampling = sampling
        self._penalty = np.float32(max(sampling.repetition_penalty, 1e-6))
        self._counting = sampling.frequency_penalty != 0 or sampling.presence_penalty != 0
        self._counts: Counter[int] = Counter()
        self._seen = _seen_in(prompt, size) if sampling.repetition_penalty != 1 else None
        self._added = _bias_of(sampling, size) if sampling.logit_bias or self._counting else None
        self._tokens = dict.fromkeys(prompt if self._seen is not None else ())
        """The tokens whose logits change, as keys in a fixed order."""
        self._tokens.update(dict.fromkeys(sampling.logit_bias))
        self.none = self._seen is None and self._added is None
        """Whether logits stay as they are."""

    def apply(self, logits: Floats) -> None:
        """Changes `logits` [vocabulary]: repetition first, then what is added or taken off."""
        if self._seen is not None:
            ids = np.flatnonzero(self._seen)
            seen = logits[ids]
            logits[ids] = np.where(seen > 0, seen / self._penalty, seen * self._penalty)
        if self._added is not None:
            logits += self._added

    def sparse(self) -> Floats | None:
        """What `apply` changes [3, tokens]: ids, factors of repetition, and what is added.

        Logits above 0 are divided by the factor and others multiplied. None if there are more than
        `MAX_ADJUSTED_TOKENS`, and never an empty array.
        """
        if not self._tokens:
            return NEUTRAL
        if len(self._tokens) > MAX_ADJUSTED_TOKENS:
            return None
        ids = np.fromiter(self._tokens, np.int64, len(self._tokens))
        sparse = np.empty((3, len(ids)), np.float32)
        sparse[0] = ids
        sparse[1] = 1 if self._seen is None else np.where(self._seen[ids], self._penalty, 1)
        sparse[2] = 0 if self._added is None else self._added[ids]
        return sparse

    def count(self, token: int) -> None:
        """Notes a token that was drawn."""
        if self._seen is not None or self._counting:
            self._tokens[token] = None
        if self._seen is not None:
            self._seen[token] = True
        if self._counting and self._added is not None:
            self._counts[token] += 1
            sampling = self._sampling
            penalty = sampling.frequency_penalty * self._counts[token] + sampling.presence_penalty
            self._added[token] = sampling.logit_bias.get(token, 0.0) - penalty


def _seen_in(prompt: Sequence[int], size: int) -> NDArray[np.bool_]:
    seen = np.zeros(size, np.bool_)
    seen[list(prompt)] = True
    return seen


def _bias_of(sampling: SamplingParams, size: int) -> Floats:
    bias = np.zeros(size, np.float32)
    bias[list(sampling.logit_bias)] = list(sampling.logit_bias.values())
    return bias
