"""Which tokens may be drawn."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np

from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.arrays import Floats, Ids, total_of
from rapport.service.engine.sampling.top_k import MAX_SPAN_NATS, largest, up_to_mass


class TooFewCandidatesError(Exception):
    """The token may be one that is not among the candidates: the whole row is needed."""


class Candidates(NamedTuple):
    """Tokens: ids and logits, each [candidates]."""

    ids: Ids
    logits: Floats
    bound: float = -math.inf
    """Tokens that are not among them have no larger logit than this; -inf if there are none."""
    weight_below: float = 0.0
    """The weight of tokens that are not among them."""

    def keep(self, places: Ids) -> Self:
        """Those at some places, which are then all that may be drawn."""
        ids, logits = self.ids[places], self.logits[places]
        return self._replace(ids=ids, logits=logits, bound=-math.inf, weight_below=0.0)

    @property
    def complete(self) -> bool:
        """Whether every token that may be drawn is among them."""
        return self.bound == -math.inf


def whole(logits: Floats) -> Candidates:
    """All tokens of `logits` [vocabulary]."""
    return Candidates(every_id(len(logits)), logits)


def narrowed(left: Candidates, sampling: SamplingParams) -> Candidates:
    """The tokens that top-k, typical-p, top-p and min-p leave, each of what the one before did.

    `left` has them in the order of their ids, and the largest logit is 0.

    Raises:
        TooFewCandidatesError: what is left depends on tokens that are not among them.
    """
    if sampling.top_k > 0:
        _need(left, enough=sampling.top_k <= len(left.ids))
        left = left.keep(largest(left.logits, sampling.top_k))
    if sampling.typical_p < 1:
        _need(left, enough=False)
        left = left.keep(_typical(left.logits, sampling.typical_p))
    if sampling.top_p < 1:
        weights = np.exp(left.logits)
        total = total_of(weights)
        mass = sampling.top_p * (total + left.weight_below)
        _need(left, enough=mass <= total)
        left = left.keep(up_to_mass(left.logits, weights, mass))
    if sampling.min_p > 0:
        least = left.logits.max() + np.float32(math.log(sampling.min_p))
        _need(left, enough=bool(least > left.bound))
        left = left.keep(np.flatnonzero(left.logits >= least))
    return left


def _need(left: Candidates, *, enough: bool) -> None:
    if not (enough or left.complete):
        raise TooFewCandidatesError


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
