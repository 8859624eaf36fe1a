"""Which tokens may be drawn."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np

from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.arrays import Floats, Ids, total_of
from rapport.service.engine.sampling.top_k import MAX_SPAN_NATS, largest, up_to_mass


class Candidates(NamedTuple):
    """Tokens: ids and logits, each [candidates]."""

    ids: Ids
    logits: Floats

    def keep(self, places: Ids) -> Self:
        """Those at some places."""
        return self._replace(ids=self.ids[places], logits=self.logits[places])


def candidates(logits: Floats, sampling: SamplingParams) -> Candidates:
    """The tokens that top-k, typical-p, top-p and min-p leave, each of what the one before did.

    `logits` [vocabulary] have their maximum at 0.
    """
    left = Candidates(every_id(len(logits)), logits)
    if sampling.top_k > 0:
        left = left.keep(largest(logits, sampling.top_k))
    if sampling.typical_p < 1:
        left = left.keep(_typical(left.logits, sampling.typical_p))
    if sampling.top_p < 1:
        weights = np.exp(left.logits)
        left = left.keep(up_to_mass(left.logits, weights, sampling.top_p * total_of(weights)))
    if sampling.min_p > 0:
        least = left.logits.max() + np.float32(math.log(sampling.min_p))
        left = left.keep(np.flatnonzero(left.logits >= least))
    return left


@lru_cache(maxsize=1)
def every_id(size: int) -> Ids:
    """Those of a vocabulary: to make them again takes as long as a draw."""
    return np.arange(size)


def narrows(sampling: SamplingParams) -> bool:
    """Whether any token is left out."""
    return sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0 or sampling.typical_p < 1


def _typical(logits: Floats, share: float) -> Ids:
    """Places of those whose surprise is closest to the entropy, up to a share of all weights.

    Source: Meister et al., Locally Typical Sampling, 2022.
    """
    weights = np.exp(logits)
    total = total_of(weights)
    # That of a token that is refused is infinite, which times no weight is no number.
    surprises = np.minimum(np.float32(math.log(total)) - logits, np.float32(MAX_SPAN_NATS))
    entropy = (weights * surprises).sum(dtype=np.float64) / total
    return np.sort(up_to_mass(-np.abs(surprises - np.float32(entropy)), weights, share * total))
