from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from service.engine.request import Sampling
from service.engine.sampler import STRIDE, Sampler, candidates, draw_all, pick

Floats = NDArray[np.float32]

# Apart by more than rounding, so that the order of the most probable is certain.
distinct = st.lists(st.integers(-1280, 1280), min_size=2, max_size=60, unique=True)
# The largest is the largest that a generator gives.
SHARES = st.floats(0, 1 - 2**-53) | st.sampled_from([0.0, 1 - 2**-53])
logit_rows = distinct.map(lambda values: np.array(values, np.float32) / 64)


def sampler(size: int, prompt: Sequence[int] = (), choice: int = 0, **options: Any) -> Sampler:
    return Sampler(Sampling(**options), prompt, choice, size)


def kept(logits: Floats, **options: Any) -> set[int]:
    ids, _ = candidates(logits - logits.max(), Sampling(**options))
    return set(ids.tolist())


def softmax(logits: Floats) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(weights / weights.sum())


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    """Temperature 0 takes the most probable token, and the lowest id of a tie."""
    logits = np.array([[0, 3, 3, 1], [5, 0, 0, 5]], np.float32)
    assert draw_all(logits, [sampler(4, temperature=0)] * 2) == [1, 0]


@given(logit_rows, st.integers(1, 100))
def test_top_k_keeps_the_k_most_probable(logits: Floats, k: int) -> None:
    """top_k keeps the k largest logits."""
    assert kept(logits, top_k=k) == set(np.argsort(-logits)[:k].tolist())


@given(logit_rows, st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_nucleus(logits: Floats, p: float) -> None:
    """top_p keeps the fewest most probable tokens that reach the mass."""
    ids = kept(logits, top_p=p)
    mass = np.sort(softmax(logits))[::-1].cumsum()
    assert ids == set(np.argsort(-logits)[: len(ids)].tolist())
    assert mass[len(ids) - 1] >= p - 1e-5
    assert len(ids) == 1 or mass[len(ids) - 2] < p + 1e-5


def test_top_p_reaches_beyond_the_head() -> None:
    """A flat distribution needs more than the head that is looked at first."""
    assert len(kept(np.zeros(4096, np.float32), top_p=0.5)) == pytest.approx(2048, abs=1)


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
    surprise = -np.log(np.maximum(probabilities, 1e-30))
    oddness = np.abs(surprise - (probabilities * surprise).sum())
    ids = kept(logits, typical_p=p)
    assert probabilities[list(ids)].sum() >= p - 1e-4
    outside = [i for i in range(len(logits)) if i not in ids]
    assert not outside or oddness[list(ids)].max() <= oddness[outside].min() + 1e-3


def test_samples_follow_the_distribution() -> None:
    """Drawn often enough, tokens come as often as their probabilities say."""
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    drawer = sampler(4, seed=1)
    counts = Counter(drawer.draw(logits.copy()) for _ in range(20_000))
    shares = [counts[token] / 20_000 for token in range(4)]
    assert shares == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.015)


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


def test_temperature_sharpens_and_flattens() -> None:
    """Temperature divides the logits."""
    logits = np.log(np.array([0.8, 0.2], np.float32))
    drawer = sampler(2, seed=3, temperature=2)
    share = sum(drawer.draw(logits.copy()) == 0 for _ in range(20_000)) / 20_000
    assert share == pytest.approx(2 / 3, abs=0.015)


@pytest.mark.parametrize("temperature", [1e-9, 1e-4, 2.0])
def test_extreme_logits_do_not_overflow(temperature: float) -> None:
    """Huge logits and tiny temperatures still give the most probable token."""
    logits = np.array([1e4, -1e4, 3e4], np.float32)
    assert sampler(3, temperature=temperature, top_p=0.9).draw(logits) == 2


def test_a_seed_repeats_and_choices_differ() -> None:
    """The same seed draws the same tokens; another choice of the request draws others."""
    logits = np.zeros(1000, np.float32)

    def drawn(seed: int | None, choice: int) -> list[int]:
        drawer = sampler(1000, choice=choice, seed=seed)
        return [drawer.draw(logits.copy()) for _ in range(8)]

    assert drawn(5, 0) == drawn(5, 0)
    assert drawn(5, 0) != drawn(5, 1)
    assert drawn(-5, 0) == drawn(-5, 0) != drawn(5, 0)
    assert drawn(None, 0) != drawn(None, 0)


def test_frequency_and_presence_penalties_count_what_was_generated() -> None:
    """Frequency counts each time, presence once, and the prompt not at all."""
    drawer = sampler(3, prompt=[2], temperature=0, frequency_penalty=1.0, presence_penalty=0.5)
    logits = np.array([2.2, 1.0, 0.0], np.float32)
    drawn = [drawer.draw(logits.copy()) for _ in range(4)]
    # After one 0: 0.7 against 1.0; after a 1: 0.7 against -0.5; after two 0: -0.3, -0.5, 0.
    assert drawn == [0, 1, 0, 2]


def test_repetition_penalty_counts_prompt_and_output() -> None:
    """Logits above 0 are divided and those below multiplied, for tokens of either."""
    drawer = sampler(4, prompt=[0], temperature=0, repetition_penalty=2.0)
    logits = np.array([3.0, 2.0, 1.2, -1.0], np.float32)
    assert [drawer.draw(logits.copy()) for _ in range(3)] == [1, 0, 0]


def test_logit_bias_moves_tokens() -> None:
    """A bias is added before anything is drawn, also for greedy requests."""
    logits = np.zeros((1, 3), np.float32)
    assert draw_all(logits, [sampler(3, temperature=0, logit_bias={2: 5.0})]) == [2]
    banned = sampler(2, logit_bias={0: -100.0}, seed=0)
    assert {banned.draw(np.zeros(2, np.float32)) for _ in range(50)} == {1}


@given(st.data())
def test_rows_do_not_touch_each_other(data: st.DataObject) -> None:
    """A row's token is the same alone and beside others."""
    rows = data.draw(st.integers(2, 5))
    logits = data.draw(hnp.arrays(np.float32, (rows, 8), elements=st.floats(-5, 5, width=32)))
    options = data.draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "temperature": st.sampled_from([0.0, 0.7, 1.5]),
                    "top_p": st.sampled_from([0.5, 1.0]),
                    "repetition_penalty": st.sampled_from([1.0, 1.3]),
                    "seed": st.integers(0, 99),
                }
            ),
            min_size=rows,
            max_size=rows,
        )
    )
    alone = [sampler(8, [1], **o).draw(logits[row].copy()) for row, o in enumerate(options)]
    assert draw_all(logits, [sampler(8, [1], **o) for o in options]) == alone


@pytest.mark.parametrize("target", [2.5, 3.5, 4.5])
def test_mirostat_holds_to_the_surprise(target: float) -> None:
    """Over many tokens, the mean surprise is near the target, in bits."""
    row = -1.3 * np.log(np.arange(1, 2001, dtype=np.float32))  # as words are distributed
    drawer = sampler(2000, seed=4, mirostat_target=target)
    surprise = [-np.log2(softmax(row)[drawer.draw(row.copy())]) for _ in range(2000)]
    assert np.mean(surprise[200:]) == pytest.approx(target, abs=0.3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("target", [0.0, 5.0, 1e9, sys.float_info.max])
@pytest.mark.parametrize("rate", [0.0, 1e6, 1e308, sys.float_info.max])
def test_mirostat_survives_a_target_out_of_reach(target: float, rate: float) -> None:
    """A surprise that the model cannot give moves the bound for ever, and nothing overflows."""
    drawer = sampler(3, seed=1, mirostat_target=target, mirostat_lr=rate)
    row = np.array([1, 2, 3], np.float32)
    assert {drawer.draw(row.copy()) for _ in range(200)} <= {0, 1, 2}


def test_mirostat_always_has_a_token() -> None:
    """A target of 0, or one token without rival, still gives the most probable token."""
    logits = np.array([0, 50, 0], np.float32)
    drawer = sampler(3, mirostat_target=0.0, mirostat_lr=1.0)
    assert {drawer.draw(logits.copy()) for _ in range(20)} == {1}
