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
Bytes = NDArray[np.uint8]

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


def draw_index(weights: Floats, share: float) -> int:
    """The index of `weights` [candidates] that a share of their total, from 0 to 1, falls on."""
    stride, rest = draw_stride(stride_sums(weights), share)
    start = stride * STRIDE
    return start + draw_inside(weights[start : start + STRIDE], rest)


def draw_stride(sums: NDArray[np.float64], share: float) -> tuple[int, float]:
    """The stride that a share of the total falls on, and the weight from where it starts.

    `sums` [strides] are the weights of each.
    """
    cumulative = sums.cumsum()
    weight = share * float(cumulative[-1])
    stride = _place_of(weight, cumulative)
    return stride, weight - float(cumulative[stride - 1] if stride else 0)


def draw_inside(weights: Floats, weight: float) -> int:
    """The index within a stride that a weight, counted from where it starts, falls on."""
    return _place_of(weight, weights.cumsum(dtype=np.float64))


def _place_of(weight: float, cumulative: NDArray[np.float64]) -> int:
    """The index whose weight a part of the total falls on; never one with a weight of 0."""
    highest = np.nextafter(cumulative[-1], 0)  # rounding may bring the part up to the total
    return int(cumulative.searchsorted(min(weight, highest), side="right"))


def total_of(weights: Floats) -> float:
    return float(stride_sums(weights).sum())


def stride_sums(weights: Floats) -> NDArray[np.float64]:
    """The sums of `STRIDE` weights each, and of the rest."""
    if 0 < len(weights) < STRIDE:  # as below, in a fraction of the time
        return np.array([weights.sum(dtype=np.float64)])
    whole = len(weights) // STRIDE * STRIDE
    sums = np.einsum("ij->i", weights[:whole].reshape(-1, STRIDE)).astype(np.float64)
    return np.append(sums, weights[whole:].sum(dtype=np.float64)) if whole < len(weights) else sums
