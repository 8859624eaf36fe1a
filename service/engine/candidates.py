"""Which tokens may be drawn."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from service.engine.request import Sampling
from service.engine.vectors import Floats, Ids, all_places, largest, total_of

# Of a distribution so many of the first tokens are looked at, then so many, then all.
HEADS = (128, 1024)
# The surprise of a token that is refused, in nats: an infinite one times no weight is no number.
REFUSED = 1e4


class Candidates(NamedTuple):
    """Tokens: ids and logits, each [candidates]."""

    ids: Ids
    logits: Floats

    def keep(self, places: Ids) -> Self:
        """Those at some places."""
        return self._replace(ids=self.ids[places], logits=self.logits[places])


def candidates(logits: Floats, sampling: Sampling) -> Candidates:
    """The tokens that top-k, typical-p, top-p and min-p leave, each of what the one before did.

    `logits` [vocabulary] have their maximum at 0.
    """
    left = Candidates(all_places(len(logits)), logits)
    if sampling.top_k > 0:
        left = left.keep(largest(logits, sampling.top_k))
    if sampling.typical_p < 1:
        left = left.keep(typical(left.logits, sampling.typical_p))
    if sampling.top_p < 1:
        left = left.keep(nucleus(left.logits, np.exp(left.logits), sampling.top_p))
    if sampling.min_p > 0:
        least = left.logits.max() + np.float32(math.log(sampling.min_p))
        left = left.keep(np.flatnonzero(left.logits >= least))
    return left


def narrows(sampling: Sampling) -> bool:
    """Whether any token is left out."""
    return sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0 or sampling.typical_p < 1


def typical(logits: Floats, share: float) -> Ids:
    """Places of those whose surprise is closest to the entropy, up to a share of all weights.

    Source: Meister et al., Locally Typical Sampling, 2022.
    """
    weights = np.exp(logits)
    total = total_of(weights)
    surprises = np.minimum(np.float32(math.log(total)) - logits, np.float32(REFUSED))
    entropy = (weights * surprises).sum(dtype=np.float64) / total
    return np.sort(nucleus(-np.abs(surprises - np.float32(entropy)), weights, share))


def nucleus(keys: NDArray[np.floating], weights: Floats, share: float) -> Ids:
    """Places of the largest keys, until their weights reach a share of all; at least one."""
    mass = share * total_of(weights)
    for count in (*HEADS, len(keys)):
        places = largest(keys, count)
        reached = int(weights[places].cumsum(dtype=np.float64).searchsorted(mass))
        if reached < len(places):
            break
    return places[: reached + 1]
