from __future__ import annotations

import pytest

from rapport.service.engine.scheduling.latency_model import GRAIN, Pace


def paced(target: float, decode: float, per_token: float) -> Pace:
    """A pace that has seen many steps of the same length."""
    pace = Pace(target)
    for _ in range(200):
        pace.saw_decode(decode, rows=4, context=400)
        pace.saw_prefill(100 * per_token, tokens=100, past=0)
    return pace


def test_a_slice_fills_what_decoding_leaves_of_the_target() -> None:
    """With 52 ms to keep and 18 ms of decoding, 34 ms are left for the prompt."""
    assert paced(0.052, 0.018, 0.00101).slice_beside_decode() == 32
    assert paced(0.102, 0.018, 0.00101).slice_beside_decode() == 80


def test_prompts_go_on_where_decoding_takes_all_the_time() -> None:
    """Beyond the target, prompts get half of decoding's time, and never less than a grain."""
    assert paced(0.050, 0.202, 0.00101).slice_beside_decode() == 96
    assert paced(0.050, 0.049, 0.010).slice_beside_decode() == GRAIN


def test_slices_are_shorter_behind_a_long_past() -> None:
    """Attention to what stands before costs time: here as much as the token behind 1,000."""
    pace = Pace(0.1)
    for _ in range(500):
        for past in (0, 1000, 2000):
            pace.saw_prefill(0.1 + 0.0001 * past, tokens=100, past=past)
    assert pace.slice_beside_decode(2000) < pace.slice_beside_decode(0) / 2
    deep = pace.prefill(2000, depth=1000, beside_decode=False)
    assert deep == pytest.approx(2 * pace.prefill(2000, beside_decode=False), rel=0.25)


def test_one_stall_changes_little() -> None:
    """Ten seconds without the processor are no reason for slices of five."""
    pace = paced(0.050, 0.040, 0.001)
    before = pace.slice_beside_decode()
    pace.saw_decode(10.0, rows=4, context=400)
    pace.saw_prefill(10.0, tokens=100, past=0)
    assert abs(pace.slice_beside_decode() - before) <= GRAIN
