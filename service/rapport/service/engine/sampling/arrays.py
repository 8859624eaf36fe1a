"""Arrays over the vocabulary: their types, sums over them, and draws from them.

Sums are in single precision over short strides, and in double precision over these: a sum in
double precision alone takes longer than everything else that is done to a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rapport.service.engine.errors import InvalidLogitsError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# Weights that are summed in single precision, before these sums are added in double precision.
STRIDE = 256


def checked(highest: np.floating) -> np.floating:
    """The largest logit of a row, which is no number if any of the row is none.

    Raises:
        InvalidLogitsError: it is not finite.
    """
    if not np.isfinite(highest):
        raise InvalidLogitsError
    return highest


def draw_index(weights: Floats, random: np.random.Generator) -> int:
    """An index drawn in proportion to `weights` [candidates]."""
    sums = stride_sums(weights).cumsum()
    share = random.random() * float(sums[-1])
    stride = _place_of(share, sums)
    start = stride * STRIDE
    inside = weights[start : start + STRIDE].cumsum(dtype=np.float64)
    return start + _place_of(share - float(sums[stride - 1] if stride else 0), inside)


def _place_of(share: float, cumulative: NDArray[np.float64]) -> int:
    """The index whose weight a share of the total falls on; never one with a weight of 0."""
    highest = np.nextafter(cumulative[-1], 0)  # rounding may bring a share up to the total
    return int(cumulative.searchsorted(min(share, highest), side="right"))


def total_of(weights: Floats) -> float:
    return float(stride_sums(weights).sum())


def stride_sums(weights: Floats) -> NDArray[np.float64]:
    """The sums of `STRIDE` weights each, and of the rest."""
    whole = len(weights) // STRIDE * STRIDE
    sums = np.einsum("ij->i", weights[:whole].reshape(-1, STRIDE)).astype(np.float64)
    return np.append(sums, weights[whole:].sum(dtype=np.float64)) if whole < len(weights) else sums
