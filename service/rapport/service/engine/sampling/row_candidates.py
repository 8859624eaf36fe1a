"""What a device tells of a row of logits: enough for most ways to draw a token from it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rapport.service.engine.sampling.arrays import (
    STRIDE,
    Bytes,
    Floats,
    checked,
    draw_inside,
    draw_stride,
)
from rapport.service.engine.sampling.candidates import Candidates, TooFewCandidatesError
from rapport.service.engine.sampling.logprobs import TokenLogprob
from rapport.service.engine.sampling.top_k import HEAD_SIZES


class RowSettings(NamedTuple):
    """What a device has to know of a row to find its candidates."""

    temperature: np.float32
    share: float
    """Of all weights, from 0 to 1: it falls on the token that is drawn if no token is left out."""
    adjustments: Floats
    """What changes in logits first [3, tokens], as `LogitAdjustments.sparse` has it."""
    allowed: Bytes | None = None
    """The tokens that a grammar allows: a bit for each, the lowest first."""

    def shows(self, count: int) -> bool:
        """Whether the candidates have the `count` most probable tokens before all this."""
        return self.allowed is None and self.adjustments.shape[1] + count <= HEAD_SIZES[-1]


class RowCandidates(NamedTuple):
    """A row of logits after its adjustments. Weights are exponentials, that of the largest is 1."""

    settings: RowSettings
    normaliser: float
    """The logarithm of the sum of the exponentials of all logits before the adjustments."""
    adjusted: Floats
    """The logits of the adjusted tokens before the adjustments."""
    logits: Floats
    """The largest ones, falling."""
    ids: Floats
    """The tokens of these."""
    size: int
    """How many tokens the vocabulary has."""
    sums: Floats
    """The weights of each stride of the vocabulary, added up."""
    stride: float
    """The stride that the share falls on."""
    stride_logits: Floats
    """The logits in it."""

    def check(self) -> None:
        """Raises InvalidLogitsError unless the logits are finite."""
        checked(np.float64(self.normaliser))
        checked(self.logits[0])

    def most_probable(self) -> int:
        """The token with the largest logit; the lowest id among equals."""
        return int(self.ids[self.logits == self.logits[0]].min())

    def head(self, count: int) -> Candidates:
        """The most probable tokens, at most `count`, in the order of their ids.

        A token as probable as one that is left out is left out too.

        Raises:
            TooFewCandidatesError: so that there is none.
        """
        known = len(self.logits)
        logits = self._scaled(self.logits[: count + 1])
        bound = -math.inf if known == self.size and count >= known else float(logits[-1])
        ids = self.ids[: np.count_nonzero(logits > bound)].astype(np.int64)
        if not len(ids):
            raise TooFewCandidatesError
        order = ids.argsort()
        kept = logits[order]
        below = self.sums.sum(dtype=np.float64) - np.exp(kept).sum(dtype=np.float64)
        return Candidates(ids[order], kept, bound, max(float(below), 0.0))

    def draw_any(self) -> int:
        """Draws among all tokens of the vocabulary.

        Raises:
            TooFewCandidatesError: by rounding, the device took another stride.
        """
        stride, rest = draw_stride(self.sums.astype(np.float64), self.settings.share)
        if stride != self.stride:
            raise TooFewCandidatesError
        return stride * STRIDE + draw_inside(np.exp(self._scaled(self.stride_logits)), rest)

    def observe(self, token: int, count: int) -> TokenLogprob:
        """As `logprobs.observe`, of a token that was drawn, if the settings show so many."""
        changed = self.settings.adjustments[0].astype(np.int64)
        known = self.ids.astype(np.int64)
        same = ~np.isin(known, changed)
        ids = np.append(known[same], changed)
        logits = np.append(self.logits[same], self.adjusted)
        best = np.lexsort((ids, -logits))[:count]
        places = np.flatnonzero(ids == token)
        logit = logits[places[0]] if len(places) else self.stride_logits[token % STRIDE]
        top = zip(ids[best].tolist(), logits[best].tolist(), strict=True)
        alternatives = tuple((each, value - self.normaliser) for each, value in top)
        return TokenLogprob(token, float(logit) - self.normaliser, alternatives)

    def _scaled(self, logits: Floats) -> Floats:
        with np.errstate(over="ignore"):
            scaled: Floats = (logits - self.logits[0]) / self.settings.temperature
        return scaled
