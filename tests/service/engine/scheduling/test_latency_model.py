from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.scheduling.latency_model import (
    LEARNING_RATE,
    MAX_OUTLIER_RATIO,
    SLICE_GRAIN_TOKENS,
    LatencyModel,
    LinearFit,
)


def paced(target: float, decode: float, per_token: float) -> LatencyModel:
    """A pace that has seen many steps of the same length."""
    pace = LatencyModel(target)
    for _ in range(200):
        pace.observe_decode(decode, rows=4, context=400)
        pace.observe_prefill(100 * per_token, tokens=100, past=0)
    return pace


def test_a_slice_fills_what_decoding_leaves_of_the_target() -> None:
    """With 52 ms to keep and 18 ms of decoding, 34 ms are left for the prompt."""
    assert paced(0.052, 0.018, 0.00101).slice_beside_decode() == 32
    assert paced(0.102, 0.018, 0.00101).slice_beside_decode() == 80


def test_prompts_go_on_where_decoding_takes_all_the_time() -> None:
    """Beyond the target, prompts get half of decoding's time, and never less than a grain."""
    assert paced(0.050, 0.202, 0.00101).slice_beside_decode() == 96
    assert paced(0.050, 0.049, 0.010).slice_beside_decode() == SLICE_GRAIN_TOKENS


def test_slices_are_shorter_behind_a_long_past() -> None:
    """Attention to what stands before costs time: here as much as the token behind 1,000."""
    pace = LatencyModel(0.1)
    for _ in range(500):
        for past in (0, 1000, 2000):
            pace.observe_prefill(0.1 + 0.0001 * past, tokens=100, past=past)
    assert pace.slice_beside_decode(2000) < pace.slice_beside_decode(0) / 2
    deep = pace.prefill(2000, depth=1000, beside_decode=False)
    assert deep == pytest.approx(2 * pace.prefill(2000, beside_decode=False), rel=0.25)


def test_one_stall_changes_little() -> None:
    """Ten seconds without the processor are no reason for slices of five."""
    pace = paced(0.050, 0.040, 0.001)
    before = pace.slice_beside_decode()
    pace.observe_decode(10.0, rows=4, context=400)
    pace.observe_prefill(10.0, tokens=100, past=0)
    assert abs(pace.slice_beside_decode() - before) <= SLICE_GRAIN_TOKENS


def test_parts_are_told_apart() -> None:
    """From steps of many sizes the fit learns what each of two features costs."""
    fit = LinearFit(1, 1)
    for step in range(3000):
        rows = 1 + step % 16
        fit.observe(4 + 2 * rows, 1, rows)
    assert fit.predict(1, 1) == pytest.approx(6, rel=0.1)
    assert fit.predict(1, 16) == pytest.approx(36, rel=0.1)


def test_the_first_steps_replace_the_guess() -> None:
    """A model a hundred times as slow is known after a few steps."""
    fit = LinearFit(1)
    for _ in range(3):
        fit.observe(100, 1)
    assert fit.predict(1) == pytest.approx(100)


def test_a_stall_counts_as_a_slow_step() -> None:
    """However long it was, and what came before is found again soon."""
    fit = LinearFit(1, 0.1)
    for _ in range(100):
        fit.observe(2, 1, 5)
    fit.observe(1000, 1, 5)
    assert fit.predict(1, 5) == pytest.approx(2 * (1 + LEARNING_RATE * (MAX_OUTLIER_RATIO - 1)))
    for _ in range(20):
        fit.observe(2, 1, 5)
    assert fit.predict(1, 5) == pytest.approx(2, rel=0.01)


def test_lasting_change_is_followed() -> None:
    """Steps that are slower from now on are no outliers."""
    fit = LinearFit(1)
    for seconds in [1] * 50 + [10] * 50:
        fit.observe(seconds, 1)
    assert fit.predict(1) == pytest.approx(10, rel=0.01)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 17), st.integers(0, 10**6)), max_size=50)
)
def test_whatever_is_measured_the_expected_time_is_positive(
    steps: list[tuple[float, int, int]],
) -> None:
    fit = LinearFit(0.004, 0.0022, 2.4e-6)
    for seconds, rows, context in steps:
        fit.observe(seconds, 1, rows, context)
        assert fit.predict(1, rows, context) > 0
        assert fit.predict(1, 1, 0) > 0
