"""Arithmetic over a row of the vocabulary.

A sort of all, or a sum in double precision, takes longer than all else that is done to a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# Most distributions have their mass in so many tokens, or in so many.
HEADS = (128, 1024)
# So many are soon sorted.
FEW = 256
# In nats: below it a weight beside one of 1 is none in single precision.
SPAN = 200.0
# Of so many keys that are apart by the same distance the largest is found first.
DEPTH = 16
# Weights are summed so many at a time, in single precision, and these sums in double.
STRIDE = 256


def largest(keys: Floats, count: int) -> Ids:
    """Places of the `count` largest keys, the first places among equals; in order of place."""
    if count >= len(keys):
        return np.arange(len(keys))
    places = np.flatnonzero(keys >= bound(keys, count))
    found = keys[places]
    least = np.partition(found, -count)[-count]
    above = places[found > least]
    equal = places[found == least]
    return np.sort(np.append(above, equal[: count - len(above)]))


def ranked(keys: Floats, places: Ids) -> Ids:
    """Places by falling key, the first among equals first."""
    return places[np.argsort(-keys[places], kind="stable")]


def bound(keys: Floats, count: int) -> np.floating:
    """A key that at least `count` keys reach: the last of them, or one that is sooner found."""
    columns = len(keys) // DEPTH
    if columns >= 2 * count:
        # As many columns reach it as keys that are the largest of theirs.
        keys = keys[: DEPTH * columns].reshape(DEPTH, columns).max(axis=0)
    reached: np.floating = np.partition(keys, -count)[-count]
    return reached


def until(keys: Floats, weights: Floats, mass: float) -> Ids:
    """Places of the largest keys: as many as it takes for their weights to reach a mass.

    At least one; the first among equals. Keys that are more than `SPAN` apart from the largest
    have no weight.
    """
    for count in HEADS:
        head = ranked(keys, largest(keys, count))
        if weights[head].sum(dtype=np.float64) >= mass or count >= len(keys):
            return head[: needed(weights[head], mass)]
    low, high = bracket(keys, weights, mass)
    certain = np.flatnonzero(keys >= high)
    rest = ranked(keys, np.flatnonzero((keys >= low) & (keys < high)))
    mass -= float(weights[certain].sum(dtype=np.float64))
    return np.append(certain, rest[: needed(weights[rest], mass)])


def needed(weights: Floats, mass: float) -> int:
    """How many of the first weights reach a mass; at least one."""
    return int(weights.cumsum(dtype=np.float64).searchsorted(mass)) + 1


def bracket(keys: Floats, weights: Floats, mass: float) -> tuple[np.float32, np.float32]:
    """Two keys. What reaches the higher weighs less than a mass, what reaches the lower does not.

    Between them are at most `FEW` keys, or equal ones: to sort a vocabulary takes much longer.
    """
    high = np.nextafter(keys.max(), np.float32(np.inf))
    low = max(keys.min(), high - np.float32(SPAN))
    between = len(keys)
    while between > FEW and low < (middle := low + (high - low) / 2) < high:
        above = keys >= middle
        low, high = (middle, high) if total_of(weights * above) >= mass else (low, middle)
        between = int(np.count_nonzero((keys >= low) & (keys < high)))
    return low, high


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
