"""Log probabilities of tokens, as the model gives them: before penalties, bias and temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token's log probability, and those of the most probable tokens there."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def observe(logits: NDArray[np.float32], token: int, count: int) -> TokenLogprob:
    """Of `logits` [vocabulary], those of a token and of the `count` most probable ones."""
    wide = logits.astype(np.float64)
    highest = wide.max()
    normaliser = highest + np.log(np.exp(wide - highest).sum())
    best = np.argpartition(wide, -count)[-count:] if count else np.arange(0)
    best = best[np.argsort(-wide[best], kind="stable")]
    top = tuple((int(each), float(wide[each] - normaliser)) for each in best)
    return TokenLogprob(token, float(wide[token] - normaliser), top)
