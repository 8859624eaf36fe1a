from __future__ import annotations

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, FinishReason, Tenant
from rapport.service.engine.scheduling.load import Demand, EngineLoad
from tests.service.engine.fake import greedy

ANN = Tenant("", "ann")


def generation(n: int = 1) -> Generation:
    return Generation(greedy("a prompt", 5, n=n, tenant=ANN), lambda _: None)


def test_who_was_promised_a_place_waits_like_those_in_line() -> None:
    load = EngineLoad.of([generation(n=2)], [Demand(ANN)])
    assert load.waiting == [Demand(ANN), Demand(ANN, len("a prompt"), 2)]
    assert not load.running
    assert load.age == 0


def test_a_request_runs_while_choices_of_it_do() -> None:
    """Its prompt is read until its first token is there, but for what was in the cache."""
    begun = generation(n=3)
    begun.mark_started(begun.submitted_at)
    begun.add_cached(2)
    load = EngineLoad.of([begun], [])
    assert not load.waiting
    assert load.running == {ANN: 3}
    assert load.prefilling == [Demand(ANN, len("a prompt") - 2, 0)]
    begun.add(Delta(0, "x", [7], FinishReason.STOP))
    load = EngineLoad.of([begun], [])
    assert load.running == {ANN: 2}
    assert not load.prefilling
    assert load.age > 0
