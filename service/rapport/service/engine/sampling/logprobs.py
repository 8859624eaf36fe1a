"""Log probabilities of tokens, as the model gives them: before penalties, bias and temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rapport.service.engine.sampling.arrays import Floats, checked, total_of
from rapport.service.engine.sampling.top_k import largest, ranked


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token's log probability, and those of the most probable tokens there."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def observe(logits: Floats, token: int, count: int) -> TokenLogprob:
    """Of `logits` [vocabulary], those of a token and of the `count` most probable ones.

    Raises:
        InvalidLogitsError: the logits are not finite.
    """
    highest = checked(logits.max())
    normaliser = float(highest) + math.log(total_of(np.exp(logits - highest)))
    best = ranked(logits, largest(logits, count)).tolist() if count else []
    top = tuple((each, float(logits[each]) - normaliser) for each in best)
    return TokenLogprob(token, float(logits[token]) - normaliser, top)
