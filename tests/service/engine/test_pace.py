from __future__ import annotations

from service.engine.pace import GRAIN, Pace


def paced(target: float, decode: float, per_token: float) -> Pace:
    """A pace that has seen many steps of the same length."""
    pace = Pace(target)
    for _ in range(100):
        pace.saw_decode(decode)
        pace.saw_prefill(100, 100 * per_token)
    return pace


def test_a_slice_fills_what_decoding_leaves_of_the_target() -> None:
    """With 52 ms to keep and 18 ms of decoding, 34 ms are left for the prompt."""
    assert paced(0.052, 0.018, 0.001).slice_beside_decode() == 32
    assert paced(0.102, 0.018, 0.001).slice_beside_decode() == 80


def test_prompts_go_on_where_decoding_takes_all_the_time() -> None:
    """Beyond the target, prompts get half of decoding's time, and never less than a grain."""
    assert paced(0.050, 0.202, 0.001).slice_beside_decode() == 96
    assert paced(0.050, 0.049, 0.010).slice_beside_decode() == GRAIN
