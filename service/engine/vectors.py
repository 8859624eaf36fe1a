"""Arithmetic over a row of the vocabulary.

A sort of all, or a sum in double precision, takes longer than all else that is done to a row.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# Of so many keys that are apart by the same distance the largest is found first.
DEPTH = 16
# Weights are summed so many at a time, in single precision, and these sums in double.
STRIDE = 256


def largest(keys: NDArray[np.floating], count: int) -> Ids:
    """Places of the `count` largest keys, largest first, the first place among equals."""
    if count < len(keys):
        places = np.flatnonzero(keys >= bound(keys, count))
    else:
        places = all_places(len(keys))
    return places[np.argsort(-keys[places], kind="stable")[:count]]


def bound(keys: NDArray[np.floating], count: int) -> np.floating:
    """A key that at least `count` keys reach, and not many more."""
    columns = len(keys) // DEPTH
    if columns >= 2 * count:
        # As many columns reach it as keys that are the largest of theirs.
        keys = keys[: DEPTH * columns].reshape(DEPTH, columns).max(axis=0)
    reached: np.floating = np.partition(keys, -count)[-count]
    return reached


@cache
def all_places(count: int) -> Ids:
    places = np.arange(count)
    places.flags.writeable = False
    return places


def pick(weights: Floats, random: np.random.Generator) -> int:
    """An index drawn in proportion to `weights` [candidates]."""
    sums = stride_sums(weights).cumsum()
    share = random.random() * float(sums[-1])
    stride = place_of(share, sums)
    start = stride * STRIDE
    inside = weights[start : start + STRIDE].cumsum(dtype=np.float64)
    return start + place_of(share - float(sums[stride - 1] if stride else 0), inside)


def place_of(share: float, cumulative: NDArray[np.float64]) -> int:
    """The index whose weight a share of the total falls on, which is never one without any."""
    highest = np.nextafter(cumulative[-1], 0)  # rounding may bring a share up to the total
    return int(cumulative.searchsorted(min(share, highest), side="right"))


def total_of(weights: Floats) -> float:
    return float(stride_sums(weights).sum())


def stride_sums(weights: Floats) -> NDArray[np.float64]:
    """The sums of `STRIDE` weights each, and of the rest."""
    whole = len(weights) // STRIDE * STRIDE
    sums = np.einsum("ij->i", weights[:whole].reshape(-1, STRIDE)).astype(np.float64)
    return np.append(sums, weights[whole:].sum(dtype=np.float64)) if whole < len(weights) else sums
