"""First guesses of speed."""

from __future__ import annotations

import pytest

from rapport.service.engine.pace import GPU_PACE, MIN_GUESS_RATIO


def test_costs_follow_from_two_steps_and_a_slice() -> None:
    pace = GPU_PACE.measured(0.001, 0.0026, 17, 2e-5)
    step_s, row_s, context_s = pace.decode_costs_s
    assert step_s == 0.001
    assert row_s == pytest.approx(1e-4)
    assert context_s == GPU_PACE.decode_costs_s[2]
    assert pace.prefill_costs_s == (2e-5, GPU_PACE.prefill_costs_s[1])


def test_a_row_that_seems_to_cost_nothing_still_has_a_price() -> None:
    """Prices must be positive to be learned from there on."""
    _, row_s, _ = GPU_PACE.measured(0.002, 0.001, 17, 2e-5).decode_costs_s
    assert row_s == MIN_GUESS_RATIO * GPU_PACE.decode_costs_s[1]
