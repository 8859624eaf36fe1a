from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.candidates import every_id, narrowed, whole
from tests.service.engine.softmax import softmax

# Apart by more than rounding, so that the order of the most probable is certain.
distinct = st.lists(st.integers(-1280, 1280), min_size=2, max_size=60, unique=True)
# Some are refused by a grammar.
refused = st.integers(0, 20).map(lambda count: [-np.inf] * count)
logit_rows = st.builds(
    lambda values, none: np.append(np.array(values, np.float32) / 64, np.float32(none)),
    distinct,
    refused,
).flatmap(lambda row: st.permutations(row.tolist()).map(lambda row: np.array(row, np.float32)))


def kept(logits: Floats, **options: Any) -> set[int]:
    ids = narrowed(whole(logits - logits.max()), SamplingParams(**options)).ids
    return set(ids.tolist())


@given(logit_rows, st.integers(1, 100))
def test_top_k_keeps_the_k_most_probable(logits: Floats, k: int) -> None:
    """top_k keeps the k largest logits."""
    assert kept(logits, top_k=k) == set(np.argsort(-logits, kind="stable")[:k].tolist())


@given(logit_rows, st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_nucleus(logits: Floats, p: float) -> None:
    """top_p keeps the fewest most probable tokens that reach the mass."""
    ids = kept(logits, top_p=p)
    mass = np.sort(softmax(logits))[::-1].cumsum()
    assert ids == set(np.argsort(-logits, kind="stable")[: len(ids)].tolist())
    assert mass[len(ids) - 1] >= p - 1e-5
    assert len(ids) == 1 or mass[len(ids) - 2] < p + 1e-5


def test_top_p_reaches_beyond_the_head() -> None:
    """A flat distribution needs more than the head that is looked at first; the lowest ids."""
    ids = kept(np.zeros(4096, np.float32), top_p=0.5)
    assert len(ids) == pytest.approx(2048, abs=1)
    assert ids == set(range(len(ids)))


@given(logit_rows, st.floats(0.01, 0.99))
def test_min_p_is_relative_to_the_most_probable(logits: Floats, p: float) -> None:
    """min_p keeps tokens at least that probable relative to the first."""
    probabilities = softmax(logits)
    relative = probabilities / probabilities.max()
    ids = kept(logits, min_p=p)
    assert {i for i, value in enumerate(relative) if value > p * 1.001} <= ids
    assert ids <= {i for i, value in enumerate(relative) if value > p * 0.999}


@given(logit_rows, st.floats(0.05, 0.95))
def test_typical_p_keeps_the_least_surprising_surprises(logits: Floats, p: float) -> None:
    """typical_p keeps tokens whose surprise is nearest to the entropy, up to the mass."""
    probabilities = softmax(logits)
    surprise = -np.log(np.maximum(probabilities, 1e-30))  # of what is refused it is times 0
    oddness = np.abs(surprise - (probabilities * surprise).sum())
    ids = kept(logits, typical_p=p)
    assert probabilities[list(ids)].sum() >= p - 1e-4
    outside = [i for i in range(len(logits)) if i not in ids]
    assert not outside or oddness[list(ids)].max() <= oddness[outside].min() + 1e-3


def test_nothing_is_kept_of_the_rows_that_came_before() -> None:
    """Only the ids of the vocabulary are made once: what remains has another size each time."""
    for seed in range(20):
        row = np.random.default_rng(seed).standard_normal(5000).astype(np.float32)
        kept(row, typical_p=0.95, top_p=0.99, top_k=4000 + seed)
    assert every_id.cache_info().currsize == 1


@pytest.mark.parametrize(("share", "kept"), [(0.5, [0]), (0.75, [0, 1]), (0.76, [0, 1, 2])])
def test_logits_exactly_on_the_bound_of_top_p(share: float, kept: list[int]) -> None:
    """The tokens that together have exactly the share are enough."""
    logits = np.log(np.array([4, 2, 1, 1], np.float32) / 4)
    assert narrowed(whole(logits), SamplingParams(top_p=share)).ids.tolist() == kept
