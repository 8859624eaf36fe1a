from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rapport.service.engine.sampling.top_k import (
    DEPTH,
    STRIDE,
    Floats,
    Ids,
    largest,
    pick,
    ranked,
    stride_sums,
    until,
)

# Sizes on both sides of what is taken in columns.
SIZES = st.integers(1, 6 * DEPTH) | st.integers(40 * DEPTH, 41 * DEPTH)
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
    places = until(row, weights, share * float(sums[-1]))
    assert sorted(places) == sorted(order[: len(places)])
    wanted = int(sums.searchsorted(share * sums[-1])) + 1
    # Rounding tells apart no smaller differences of mass.
    assert sums[min(len(places), 5000) - 1] == pytest.approx(sums[min(wanted, 5000) - 1], rel=2e-6)
    assert np.count_nonzero(weights[places]) == len(places)


@pytest.mark.parametrize("size", [0, 1, STRIDE, STRIDE + 1, 3 * STRIDE, 49_157])
def test_sums_of_strides_are_near_those_in_double(size: int) -> None:
    """Single precision within a stride takes nothing off that a draw could tell."""
    weights = np.exp(4 * np.random.default_rng(1).standard_normal(size)).astype(np.float32)
    exact = [weights[at : at + STRIDE].sum(dtype=np.float64) for at in range(0, size, STRIDE)]
    assert stride_sums(weights).tolist() == pytest.approx(exact, rel=1e-6)


class Always(np.random.Generator):
    """Draws the same share every time."""

    def __init__(self, share: float) -> None:
        super().__init__(np.random.PCG64())
        self.share = share

    def random(self) -> float:  # type: ignore[override] - only this form is used
        return self.share


@given(
    st.lists(st.sampled_from([0.0, 1e-30, 0.5, 1.0]), min_size=1, max_size=300),
    st.integers(1, STRIDE),
    SHARES,
)
def test_a_share_falls_on_the_token_that_covers_it(
    some: list[float], times: int, share: float
) -> None:
    """Over as many strides as there are; and never on a token without any weight."""
    assume(any(some))
    weights = np.array(some * times, np.float32)
    drawn = pick(weights, Always(share))
    assert weights[drawn] > 0
    shares = weights / weights.sum(dtype=np.float64)
    upto = shares.cumsum()[drawn]
    assert upto - shares[drawn] - 1e-9 <= share <= upto + 1e-9
