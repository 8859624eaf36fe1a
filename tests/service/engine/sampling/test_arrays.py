from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rapport.service.engine.sampling.arrays import STRIDE, draw_index, stride_sums
from rapport.service.engine.sampling.top_k import COLUMN_DEPTH

# Sizes on both sides of what is taken in columns.
SIZES = st.integers(1, 6 * COLUMN_DEPTH) | st.integers(40 * COLUMN_DEPTH, 41 * COLUMN_DEPTH)
# The largest is the largest that a generator gives.
SHARES = st.floats(0, 1 - 2**-53) | st.sampled_from([0.0, 1 - 2**-53])


@pytest.mark.parametrize("size", [0, 1, STRIDE, STRIDE + 1, 3 * STRIDE, 49_157])
def test_sums_of_strides_are_near_those_in_double(size: int) -> None:
    """Single precision within a stride takes nothing off that a draw could tell."""
    weights = np.exp(4 * np.random.default_rng(1).standard_normal(size)).astype(np.float32)
    exact = [weights[at : at + STRIDE].sum(dtype=np.float64) for at in range(0, size, STRIDE)]
    assert stride_sums(weights).tolist() == pytest.approx(exact, rel=1e-6)


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
    drawn = draw_index(weights, share)
    assert weights[drawn] > 0
    shares = weights / weights.sum(dtype=np.float64)
    upto = shares.cumsum()[drawn]
    assert upto - shares[drawn] - 1e-9 <= share <= upto + 1e-9
