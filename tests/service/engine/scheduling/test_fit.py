from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.scheduling.fit import OUTLIER, WEIGHT, Fit


def test_parts_are_told_apart() -> None:
    """From steps of many sizes the fit learns what each of two features costs."""
    fit = Fit(1, 1)
    for step in range(3000):
        rows = 1 + step % 16
        fit.saw(4 + 2 * rows, 1, rows)
    assert fit.expect(1, 1) == pytest.approx(6, rel=0.1)
    assert fit.expect(1, 16) == pytest.approx(36, rel=0.1)


def test_the_first_steps_replace_the_guess() -> None:
    """A model a hundred times as slow is known after a few steps."""
    fit = Fit(1)
    for _ in range(3):
        fit.saw(100, 1)
    assert fit.expect(1) == pytest.approx(100)


def test_a_stall_counts_as_a_slow_step() -> None:
    """However long it was, and what came before is found again soon."""
    fit = Fit(1, 0.1)
    for _ in range(100):
        fit.saw(2, 1, 5)
    fit.saw(1000, 1, 5)
    assert fit.expect(1, 5) == pytest.approx(2 * (1 + WEIGHT * (OUTLIER - 1)))
    for _ in range(20):
        fit.saw(2, 1, 5)
    assert fit.expect(1, 5) == pytest.approx(2, rel=0.01)


def test_lasting_change_is_followed() -> None:
    """Steps that are slower from now on are no outliers."""
    fit = Fit(1)
    for seconds in [1] * 50 + [10] * 50:
        fit.saw(seconds, 1)
    assert fit.expect(1) == pytest.approx(10, rel=0.01)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 17), st.integers(0, 10**6)), max_size=50)
)
def test_whatever_is_measured_the_expected_time_is_positive(
    steps: list[tuple[float, int, int]],
) -> None:
    fit = Fit(0.004, 0.0022, 2.4e-6)
    for seconds, rows, context in steps:
        fit.saw(seconds, 1, rows, context)
        assert fit.expect(1, rows, context) > 0
        assert fit.expect(1, 1, 0) > 0
