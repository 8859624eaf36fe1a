from __future__ import annotations

from bench.workload import Workload


def test_prompts_share_no_beginning_and_are_repeatable() -> None:
    """No two requests begin alike, so that no prefix cache helps; a seed repeats them all."""
    workload = Workload("m", prompt_tokens=64, max_tokens=8, temperature=0, seed=1)
    requests = [workload.request(number) for number in range(500)]
    assert len({request.system for request in requests}) == 500
    assert requests == [workload.request(number) for number in range(500)]
    sizes = {len(f"{request.system} {request.user}".split()) for request in requests}
    assert sizes == {50}
