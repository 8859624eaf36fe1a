from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.sampling.arrays import Floats, Ids
from rapport.service.engine.sampling.top_k import COLUMN_DEPTH, largest, ranked, up_to_mass

# Sizes on both sides of what is taken in columns.
SIZES = st.integers(1, 6 * COLUMN_DEPTH) | st.integers(40 * COLUMN_DEPTH, 41 * COLUMN_DEPTH)
# The largest is the largest that a generator gives.
SHARES = st.floats(0, 1 - 2**-53) | st.sampled_from([0.0, 1 - 2**-53])


def sorted_places(row: Floats) -> Ids:
    return np.argsort(-row, kind="stable")


@given(SIZES, st.integers(0, 999), st.sampled_from([1, 3, 40, 10**6]), st.integers(1, 100))
def test_largest_are_those_of_a_stable_sort(size: int, seed: int, kinds: int, count: int) -> None:
    """Whether or not they are first sought in columns, and however many are equal."""
    row = np.random.default_rng(seed).integers(0, kinds, size).astype(np.float32)
    row[row == 0] = -np.inf
    places = largest(row, count)
    assert ranked(row, places).tolist() == sorted_places(row)[:count].tolist()
    assert places.tolist() == sorted(places.tolist())


def test_largest_of_a_vocabulary() -> None:
    """Of any number of tokens, a few in the rest that fills no column."""
    row = np.random.default_rng(0).standard_normal(49_157).astype(np.float32)
    row[-3:] = 9
    for count in (1, 40, 1024, 2000, 49_157):
        assert ranked(row, largest(row, count)).tolist() == sorted_places(row)[:count].tolist()


@pytest.mark.parametrize("kinds", [2, 50, 1_000_000], ids="{} values".format)
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 3.0, 1e4])
@pytest.mark.parametrize("share", [1e-9, 0.3, 0.9, 0.999, 1 - 1e-12])
def test_mass_is_reached_by_as_few_as_can_be(kinds: int, spread: float, share: float) -> None:
    """By the largest, however flat they are and however many are equal or have no weight."""
    random = np.random.default_rng(2)
    row = (spread * random.integers(-kinds, 0, 5000) / kinds).astype(np.float32)
    row[random.integers(0, 5000, 50)] = -np.inf
    row -= row.max()
    weights = np.exp(row)
    order = sorted_places(row)
    sums = weights[order].cumsum(dtype=np.float64)
    places = up_to_mass(row, weights, share * float(sums[-1]))
    assert sorted(places) == sorted(order[: len(places)])
    wanted = int(sums.searchsorted(share * sums[-1])) + 1
    # Rounding tells apart no smaller differences of mass.
    assert sums[min(len(places), 5000) - 1] == pytest.approx(sums[min(wanted, 5000) - 1], rel=2e-6)
    assert np.count_nonzero(weights[places]) == len(places)
