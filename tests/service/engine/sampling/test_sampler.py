from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rapport.service.engine.errors import InvalidLogitsError
from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.sampler import Sampler, draw_all
from tests.service.engine.softmax import softmax


def sampler(size: int, prompt: Sequence[int] = (), choice: int = 0, **options: Any) -> Sampler:
    return Sampler(SamplingParams(**options), prompt, choice, size)


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    """Temperature 0 takes the most probable token, and the lowest id of a tie."""
    logits = np.array([[0, 3, 3, 1], [5, 0, 0, 5]], np.float32)
    assert draw_all(logits, [sampler(4, temperature=0)] * 2) == [1, 0]


@pytest.mark.parametrize("options", [{"temperature": 0}, {}, {"top_p": 0.9}, {"top_k": 2}])
@pytest.mark.parametrize("bad", [[0, np.nan, 1], [np.nan] * 3, [-np.inf] * 3, [0, np.inf, 1]])
def test_logits_that_are_not_finite_fail_their_own_row(
    bad: list[float], options: dict[str, Any]
) -> None:
    """Whatever the temperature there is an error and no token; the rows beside get theirs."""
    logits = np.array([[0, 9, 0], bad, [0, 0, 9]], np.float32)
    greedy = [sampler(3, temperature=0) for _ in range(2)]
    first, failure, last = draw_all(logits, [greedy[0], sampler(3, **options), greedy[1]])
    assert (first, last) == (1, 2)
    assert isinstance(failure, InvalidLogitsError)


def test_a_token_that_no_mask_allows_may_have_any_logit() -> None:
    """Some logits of -inf are what masks leave, and no failure."""
    logits = np.array([-np.inf, 1, -np.inf], np.float32)
    assert [sampler(3, temperature=t).draw(logits.copy()) for t in (0, 1)] == [1, 1]


def test_samples_follow_the_distribution() -> None:
    """Drawn often enough, tokens come as often as their probabilities say."""
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    drawer = sampler(4, seed=1)
    counts = Counter(drawer.draw(logits.copy()) for _ in range(20_000))
    shares = [counts[token] / 20_000 for token in range(4)]
    assert shares == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.015)


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
