"""From logits to tokens.

The order is that of llama.cpp and Hugging Face: penalties and bias, temperature,
top-k, typical-p, top-p, min-p; or mirostat in place of those four. A row pays only for
what its request asks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.adjustments import LogitAdjustments
from rapport.service.engine.sampling.arrays import Bytes, Floats, checked, draw_index, total_of
from rapport.service.engine.sampling.candidates import (
    TooFewCandidatesError,
    narrowed,
    narrows,
    whole,
)
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings
from rapport.service.engine.sampling.top_k import HEAD_SIZES

log = logging.getLogger(__name__)

LOG2_E = math.log2(math.e)
# No surprise comes near it. A bound within it stays a number, however large a step it makes.
MAX_SURPRISE_BITS = 1e30


class Sampler:
    """Draws the tokens of one choice; the same seed and logits give the same tokens."""

    def __init__(
        self, sampling: SamplingParams, prompt: Sequence[int], choice: int, size: int
    ) -> None:
        self._sampling = sampling
        seed = None if sampling.seed is None else (sampling.seed % 2**64, choice)
        self._random = np.random.default_rng(seed)
        self._share = self._random.random()
        """The random number that decides on the next token."""
        self._temperature = np.float32(max(sampling.temperature, 1e-6))
        self._adjustments = LogitAdjustments(sampling, prompt, size)
        self._surprise_bound = min(2 * (sampling.mirostat_target or 0), MAX_SURPRISE_BITS)
        self._greedy = sampling.temperature == 0
        self.plain = self._greedy and self._adjustments.none
        """Whether it takes the largest logit, and counts nothing."""

    def draw(self, logits: Floats) -> int:
        """Draws from `logits` [vocabulary], which it may overwrite.

        Raises:
            InvalidLogitsError: they are not finite.
        """
        self._adjustments.apply(logits)
        return self._count(_most_probable(logits) if self._greedy else self._draw_random(logits))

    def settings(self, allowed: Bytes | None = None) -> RowSettings | None:
        """What a device has to know of the next token, to find the candidates for it.

        `allowed` has a bit for each token. None if the token depends on the whole row.
        """
        sampling = self._sampling
        adjustments = self._adjustments.sparse()
        typical = sampling.typical_p < 1 and sampling.top_k == 0
        if adjustments is None or typical or sampling.mirostat_target is not None:
            return None
        return RowSettings(self._temperature, self._share, adjustments, allowed)

    def draw_among(self, row: RowCandidates) -> int:
        """Draws among the candidates of a row, the token that `draw` would find in the whole row.

        Raises:
            InvalidLogitsError: the row's logits are not finite.
            TooFewCandidatesError: the token may be another one.
        """
        row.check()
        return self._count(row.most_probable() if self._greedy else self._draw_among(row))

    def _count(self, token: int) -> int:
        self._adjustments.count(token)
        self._share = self._random.random()
        return token

    def _draw_random(self, logits: Floats) -> int:
        sampling = self._sampling
        # Divided after the maximum is taken off: a tiny temperature must not overflow.
        logits -= checked(logits.max())
        if sampling.temperature != 1:
            with np.errstate(over="ignore"):
                logits /= self._temperature
        if sampling.mirostat_target is not None:
            return self._draw_mirostat(logits, sampling.mirostat_target)
        if not narrows(sampling):
            return draw_index(np.exp(logits), self._share)
        left = narrowed(whole(logits), sampling)
        return int(left.ids[draw_index(np.exp(left.logits), self._share)])

    def _draw_among(self, row: RowCandidates) -> int:
        if not narrows(self._sampling):
            return row.draw_any()
        for size in HEAD_SIZES:
            with suppress(TooFewCandidatesError):
                left = narrowed(row.head(size), self._sampling)
                return int(left.ids[draw_index(np.exp(left.logits), self._share)])
        raise TooFewCandidatesError

    def _draw_mirostat(self, logits: Floats, target: float) -> int:
        """Draws among tokens whose surprise is within a bound that follows the target.

        Source: Basu et al., Mirostat, 2021, in the form known as version 2, with surprise
        measured in the model's own distribution as in the authors' program.
        """
        weights = np.exp(logits)
        surprises = math.log2(total_of(weights)) - logits * LOG2_E
        # The most probable token stays, however surprising.
        ids = np.flatnonzero(surprises <= max(self._surprise_bound, surprises.min()))
        token = int(ids[draw_index(weights[ids], self._share)])
        step = self._sampling.mirostat_lr * (float(surprises[token]) - target)
        bound = self._surprise_bound - step
        self._surprise_bound = min(max(bound, -MAX_SURPRISE_BITS), MAX_SURPRISE_BITS)
        return token


def _most_probable(logits: Floats) -> int:
    token = int(logits.argmax())
    checked(logits[token])
    return token


def draw_all(logits: Floats, samplers: Sequence[Sampler]) -> list[int | Exception]:
    """Draws a token for each row of `logits` [rows, vocabulary], which it may overwrite.

    Where that fails there is the error in its place, which is no other row's.
    """
    if all(sampler.plain for sampler in samplers):
        best = logits.argmax(axis=1)
        if np.isfinite(logits[np.arange(len(best)), best]).all():
            return [*best.tolist()]
    return [drawn(row, sampler) for row, sampler in zip(logits, samplers, strict=True)]


def drawn(logits: Floats, sampler: Sampler) -> int | Exception:
    try:
        return sampler.draw(logits)
    except Exception as error:
        log.exception("a token could not be drawn")
        return error
