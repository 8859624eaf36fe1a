from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rapport.service.engine.errors import InvalidLogitsError
from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.adjustments import NEUTRAL
from rapport.service.engine.sampling.arrays import STRIDE, Floats
from rapport.service.engine.sampling.candidates import TooFewCandidatesError, narrowed, whole
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings

# Of few values, so that many are equal.
rows = hnp.arrays(np.float32, st.integers(2, 60), elements=st.sampled_from([-9.0, -1, 0, 0.5, 2]))
options = st.fixed_dictionaries(
    {},
    optional={
        "top_k": st.integers(1, 20),
        "top_p": st.floats(0.05, 0.99),
        "min_p": st.floats(0.01, 0.9),
        "typical_p": st.floats(0.1, 0.9),
    },
).filter(bool)  # where nothing is left out, no head is asked for


def candidates_of(row: Floats, count: int, share: float = 0.0) -> RowCandidates:
    """What a device tells of a row that gives back `count` logits; equal ones in any order."""
    order = np.lexsort((np.random.default_rng(1).random(len(row)), -row))[:count]
    weights = np.exp(row - row.max())
    stride = 0
    return RowCandidates(
        RowSettings(np.float32(1), share, NEUTRAL),
        normaliser=math.log(weights.sum(dtype=np.float64)) + float(row.max()),
        adjusted=row[:1],
        logits=row[order],
        ids=order.astype(np.float32),
        size=len(row),
        sums=weights.reshape(1, -1).sum(1),
        stride=stride,
        stride_logits=row,
    )


@given(rows, st.integers(1, 60), options)
def test_candidates_leave_the_same_tokens_as_the_whole_row(
    row: Floats, count: int, chosen: dict[str, Any]
) -> None:
    """Or they say that they are too few. Those of a whole row never do."""
    sampling = SamplingParams(**chosen)
    wanted = narrowed(whole(row - row.max()), sampling)
    found = candidates_of(row, min(count, len(row)))
    try:
        left = narrowed(found.head(count), sampling)
    except TooFewCandidatesError:
        assert count < len(row)
        return
    assert left.ids.tolist() == wanted.ids.tolist()
    assert left.logits.tolist() == wanted.logits.tolist()


@given(rows, st.integers(1, 60))
def test_a_head_has_every_token_above_its_bound(row: Floats, count: int) -> None:
    """And none that is as probable as one that is missing; by id, with the weight of the rest."""
    try:
        head = candidates_of(row, min(count, len(row))).head(count)
    except TooFewCandidatesError:
        assert count < len(row)
        return
    scaled = row - row.max()
    assert head.ids.tolist() == np.flatnonzero(scaled > head.bound).tolist()
    rest = np.exp(np.delete(scaled, head.ids)).sum()
    assert head.weight_below == pytest.approx(rest, abs=1e-4)


@given(rows)
def test_the_most_probable_token_is_the_lowest_of_a_tie(row: Floats) -> None:
    assert candidates_of(row, len(row)).most_probable() == row.argmax()


@pytest.mark.parametrize("normaliser", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_is_refused(normaliser: float) -> None:
    row = candidates_of(np.zeros(4, np.float32), 4)._replace(normaliser=normaliser)
    with pytest.raises(InvalidLogitsError):
        row.check()


def test_a_row_of_which_nothing_is_left_is_refused() -> None:
    """All that a grammar allows may have no finite logit."""
    row = candidates_of(np.zeros(4, np.float32), 4)
    with pytest.raises(InvalidLogitsError):
        row._replace(logits=np.full(4, -np.inf, np.float32)).check()


def test_another_stride_than_the_devices_needs_the_row() -> None:
    """Its logits did not come along."""
    row = candidates_of(np.zeros(STRIDE, np.float32), 4, share=0.5)
    assert row.draw_any() == STRIDE // 2
    with pytest.raises(TooFewCandidatesError):
        row._replace(stride=1).draw_any()
