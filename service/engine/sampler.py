"""From logits to tokens.

The order is that of llama.cpp and Hugging Face: penalties and bias, temperature,
top-k, typical-p, top-p, min-p; or mirostat in place of those four. A row pays only for
what its request asks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.engine.request import Sampling

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# Nucleus sampling looks at this many candidates before it sorts the whole vocabulary.
HEAD = 1024
# A draw sums the weights in strides first: a cumulative sum of all costs five times as much.
STRIDE = 256
LOG2_E = float(np.log2(np.e))
# No surprise comes near it. A bound within it stays a number, however large a step it makes.
MOST_SURPRISE = 1e100


class Sampler:
    """Draws the tokens of one choice; the same seed and logits give the same tokens."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], choice: int, size: int) -> None:
        self._sampling = sampling
        seed = None if sampling.seed is None else (sampling.seed % 2**64, choice)
        self._random = np.random.default_rng(seed)
        self._bias = bias_of(sampling, size)
        self._counts = np.zeros(size, np.int32) if counts_tokens(sampling) else None
        self._seen = self._seen_in(prompt, size)
        self._surprise_bound = min(2 * (sampling.mirostat_target or 0), MOST_SURPRISE)
        self.greedy = sampling.temperature == 0
        self.plain = self._bias is None and self._counts is None and self._seen is None

    def _seen_in(self, prompt: Sequence[int], size: int) -> NDArray[np.bool_] | None:
        if self._sampling.repetition_penalty == 1:
            return None
        seen = np.zeros(size, np.bool_)
        seen[list(prompt)] = True
        return seen

    def draw(self, logits: Floats) -> int:
        """Draws from `logits` [vocabulary], which it may overwrite."""
        self._penalise(logits)
        token = int(logits.argmax()) if self.greedy else self._draw_random(logits)
        self.take(token)
        return token

    def take(self, token: int) -> None:
        """Counts a token that was drawn."""
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True

    def _penalise(self, logits: Floats) -> None:
        sampling = self._sampling
        if self._seen is not None:
            penalty = np.float32(max(sampling.repetition_penalty, 1e-6))
            seen = logits[self._seen]
            logits[self._seen] = np.where(seen > 0, seen / penalty, seen * penalty)
        if self._counts is not None:
            logits -= self._counts * np.float32(sampling.frequency_penalty)
            logits -= (self._counts > 0) * np.float32(sampling.presence_penalty)
        if self._bias is not None:
            logits += self._bias

    def _draw_random(self, logits: Floats) -> int:
        sampling = self._sampling
        # Divided after the maximum is taken off: a tiny temperature must not overflow.
        logits -= logits.max()
        with np.errstate(over="ignore"):
            logits /= np.float32(max(sampling.temperature, 1e-6))
        if sampling.mirostat_target is not None:
            return self._draw_mirostat(logits, sampling.mirostat_target)
        if not narrows(sampling):
            weights = np.exp(logits)
            return pick(weights, self._random)
        ids, weights = candidates(logits, sampling)
        return int(ids[pick(weights, self._random)])

    def _draw_mirostat(self, logits: Floats, target: float) -> int:
        """Draws among tokens whose surprise is within a bound that follows the target.

        Source: Basu et al., Mirostat, 2021, in the form known as version 2, with surprise
        measured in the model's own distribution as in the authors' program.
        """
        weights = np.exp(logits)
        surprises = np.log2(weights.sum(dtype=np.float64)) - logits * LOG2_E
        # The most probable token stays, however surprising.
        ids = np.flatnonzero(surprises <= max(self._surprise_bound, surprises.min()))
        token = int(ids[pick(weights[ids], self._random)])
        step = self._sampling.mirostat_lr * (float(surprises[token]) - target)
        bound = self._surprise_bound - step
        self._surprise_bound = min(max(bound, -MOST_SURPRISE), MOST_SURPRISE)
        return token


def draw_all(logits: Floats, samplers: Sequence[Sampler]) -> list[int | Exception]:
    """Draws a token for each row of `logits` [rows, vocabulary], which it may overwrite.

    Where that fails there is the error in its place, which is no other row's.
    """
    # A plain greedy row counts nothing: the maximum, taken for all rows at once, is all it needs.
    plain = [sampler.greedy and sampler.plain for sampler in samplers]
    best = logits.argmax(axis=1).tolist() if any(plain) else []
    return [
        best[row] if plain[row] else drawn(logits[row], sampler)
        for row, sampler in enumerate(samplers)
    ]


def drawn(logits: Floats, sampler: Sampler) -> int | Exception:
    try:
        return sampler.draw(logits)
    except Exception as error:
        log.exception("a token could not be drawn")
        return error


def counts_tokens(sampling: Sampling) -> bool:
    return sampling.frequency_penalty != 0 or sampling.presence_penalty != 0


def narrows(sampling: Sampling) -> bool:
    return sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0 or sampling.typical_p < 1


def bias_of(sampling: Sampling, size: int) -> Floats | None:
    if not sampling.logit_bias:
        return None
    bias = np.zeros(size, np.float32)
    bias[list(sampling.logit_bias)] = list(sampling.logit_bias.values())
    return bias


def pick(weights: Floats, random: np.random.Generator) -> int:
    """An index drawn in proportion to `weights` [candidates]."""
    sums = np.add.reduceat(weights, np.arange(0, len(weights), STRIDE), dtype=np.float64).cumsum()
    share = random.random() * float(sums[-1])
    stride = place_of(share, sums)
    start = stride * STRIDE
    inside = weights[start : start + STRIDE].cumsum(dtype=np.float64)
    return start + place_of(share - float(sums[stride - 1] if stride else 0), inside)


def place_of(share: float, cumulative: NDArray[np.float64]) -> int:
    """The index whose weight a share of the total falls on, which is never one without any."""
    highest = np.nextafter(cumulative[-1], 0)  # rounding may bring a share up to the total
    return int(cumulative.searchsorted(min(share, highest), side="right"))


def candidates(logits: Floats, sampling: Sampling) -> tuple[Ids, Floats]:
    """Ids and weights of the tokens that remain, the most probable first.

    `logits` [vocabulary] have their maximum at 0, so weights are relative to the most
    probable token.
    """
    ids = most_probable(logits, sampling)
    weights = np.exp(logits[ids])
    if sampling.typical_p < 1:
        kept = typical(weights, sampling.typical_p)
        ids, weights = ids[kept], weights[kept]
    if sampling.top_p < 1:
        total = weights.sum(dtype=np.float64) if covers_all(sampling) else exp_sum(logits)
        kept_count = nucleus(weights, sampling.top_p * total)
        ids, weights = ids[:kept_count], weights[:kept_count]
    if sampling.min_p > 0:
        kept = weights >= sampling.min_p * weights[0]
        ids, weights = ids[kept], weights[kept]
    return ids, weights


def covers_all(sampling: Sampling) -> bool:
    """Whether the candidates that reach the nucleus are all there are: their sum is the total."""
    return sampling.top_k > 0 or sampling.typical_p < 1


def exp_sum(logits: Floats) -> float:
    return float(np.exp(logits).sum(dtype=np.float64))


def most_probable(logits: Floats, sampling: Sampling) -> Ids:
    """Ids by falling logit: the top k, or as many as the later filters can need."""
    if sampling.top_k > 0:
        return sorted_head(logits, min(sampling.top_k, len(logits)))
    if sampling.typical_p < 1:
        return sorted_head(logits, len(logits))
    if sampling.top_p < 1:
        head = sorted_head(logits, min(HEAD, len(logits)))
        if np.exp(logits[head]).sum(dtype=np.float64) >= sampling.top_p * exp_sum(logits):
            return head
        return sorted_head(logits, len(logits))
    # Only min-p is left, whose bound is known without sorting.
    kept = np.flatnonzero(logits >= np.log(np.float32(sampling.min_p)))
    return kept[np.argsort(-logits[kept], kind="stable")]


def sorted_head(logits: Floats, count: int) -> Ids:
    """Ids of the `count` largest logits, largest first, the lowest id among equals."""
    if count < len(logits):
        bound = np.partition(logits, -count)[-count]
        ids = np.flatnonzero(logits >= bound)
    else:
        ids = np.arange(len(logits))
    return ids[np.argsort(-logits[ids], kind="stable")[:count]]


def typical(weights: Floats, mass: float) -> NDArray[np.bool_]:
    """The candidates whose surprise is closest to the entropy, up to a probability mass.

    Source: Meister et al., Locally Typical Sampling, 2022.
    """
    probabilities = weights / weights.sum(dtype=np.float64)
    surprise = -np.log(np.maximum(probabilities, 1e-30))
    oddness = np.abs(surprise - (probabilities * surprise).sum())
    order = np.argsort(oddness, kind="stable")
    kept = np.zeros(len(weights), np.bool_)
    kept[order[: nucleus(probabilities[order], mass)]] = True
    return kept


def nucleus(weights: NDArray[np.floating], mass: float) -> int:
    """How many of the first weights it takes to reach the mass; at least one."""
    reached = int(weights.cumsum(dtype=np.float64).searchsorted(mass, side="left"))
    return min(reached + 1, len(weights))
