"""Selects the largest of a row of the vocabulary.

Nothing here sorts a whole row: that takes longer than everything else that is done to it.
"""

from __future__ import annotations

import numpy as np

from rapport.service.engine.sampling.arrays import Floats, Ids, total_of

# The sizes of heads to try first: most distributions have their mass in one of them.
HEAD_SIZES = (128, 1024)
# A sort of this many keys takes little time.
MAX_SORTED_KEYS = 256
# In nats. A weight this far below a weight of 1 is zero in single precision.
MAX_SPAN_NATS = 200.0
# A bound on the largest keys comes from column maxima: the row is read as this many rows.
COLUMN_DEPTH = 16


def largest(keys: Floats, count: int) -> Ids:
    """Places of the `count` largest keys, the first places among equals; in order of place."""
    if count >= len(keys):
        return np.arange(len(keys))
    places = np.flatnonzero(keys >= _bound(keys, count))
    found = keys[places]
    least = np.partition(found, -count)[-count]
    above = places[found > least]
    equal = places[found == least]
    return np.sort(np.append(above, equal[: count - len(above)]))


def ranked(keys: Floats, places: Ids) -> Ids:
    """Places in order of falling keys; among equal keys, the first place comes first."""
    return places[np.argsort(-keys[places], kind="stable")]


def _bound(keys: Floats, count: int) -> np.floating:
    """A lower bound on the `count` largest keys: the smallest of them, or a quicker guess."""
    columns = len(keys) // COLUMN_DEPTH
    if columns >= 2 * count:
        # Of the column maxima, `count` reach the bound, so at least as many keys do.
        keys = keys[: COLUMN_DEPTH * columns].reshape(COLUMN_DEPTH, columns).max(axis=0)
    reached: np.floating = np.partition(keys, -count)[-count]
    return reached


def up_to_mass(keys: Floats, weights: Floats, mass: float) -> Ids:
    """Places of the largest keys: as many as it takes for their weights to reach a mass.

    At least one; the first places among equals. Keys more than `MAX_SPAN_NATS` below the largest
    count as having no weight.
    """
    for count in HEAD_SIZES:
        head = ranked(keys, largest(keys, count))
        if weights[head].sum(dtype=np.float64) >= mass or count >= len(keys):
            return head[: _needed(weights[head], mass)]
    low, high = _bracket(keys, weights, mass)
    certain = np.flatnonzero(keys >= high)
    rest = ranked(keys, np.flatnonzero((keys >= low) & (keys < high)))
    mass -= float(weights[certain].sum(dtype=np.float64))
    return np.append(certain, rest[: _needed(weights[rest], mass)])


def _needed(weights: Floats, mass: float) -> int:
    """How many of the first weights reach a mass; at least one."""
    return int(weights.cumsum(dtype=np.float64).searchsorted(mass)) + 1


def _bracket(keys: Floats, weights: Floats, mass: float) -> tuple[np.float32, np.float32]:
    """A low and a high key: keys from the low one up reach the mass, from the high one up do not.

    At most `MAX_SORTED_KEYS` keys lie between them, unless these are equal. They are then sorted,
    which takes much less time than sorting a vocabulary.
    """
    high = np.nextafter(keys.max(), np.float32(np.inf))
    low = max(keys.min(), high - np.float32(MAX_SPAN_NATS))
    between = len(keys)
    while between > MAX_SORTED_KEYS and low < (middle := low + (high - low) / 2) < high:
        above = keys >= middle
        low, high = (middle, high) if total_of(weights * above) >= mass else (low, middle)
        between = int(np.count_nonzero((keys >= low) & (keys < high)))
    return low, high
