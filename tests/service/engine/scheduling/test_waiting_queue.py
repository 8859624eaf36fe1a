from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import NOBODY, Tenant, Tier
from rapport.service.engine.scheduling.fairness import Ledger
from rapport.service.engine.scheduling.waiting_queue import PATIENCE, Line
from rapport.service.engine.sequence import Job
from tests.service.engine.fake import greedy

ONE, TWO = Tenant("one"), Tenant("two")


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    for tenant in (NOBODY, ONE, TWO):
        ledger.enter(tenant)
    return ledger


def job(tenant: Tenant = NOBODY, tier: Tier = Tier.DEFAULT) -> Job:
    return Job(Generation(greedy("a", 1, tenant=tenant, tier=tier), lambda _: None))


def order(line: Line) -> list[Job]:
    jobs = []
    while (first := line.first(lambda _: True)) is not None:
        line.remove(first)
        jobs.append(first)
    return jobs


def test_one_tenant_waits_in_order_of_arrival(ledger: Ledger) -> None:
    line, jobs = Line(ledger), [job() for _ in range(4)]
    for each in jobs:
        line.append(each)
    assert order(line) == jobs


def test_the_least_served_goes_first(ledger: Ledger) -> None:
    line, early, late = Line(ledger), job(ONE), job(TWO)
    ledger.charge(ONE, prompt=1)
    line.append(early)
    line.append(late)
    assert order(line) == [late, early]


def test_of_equals_the_one_that_waits_longer_goes_first(ledger: Ledger) -> None:
    """Fresh names that call everything urgent do not overtake."""
    line, early = Line(ledger), job(ONE)
    late = job(TWO, Tier.PRIORITY)
    line.append(late)
    line.append(early)
    assert order(line) == [early, late]


def test_tiers_count_within_a_tenant_only(ledger: Ledger) -> None:
    """Nobody gets more than a share by calling everything urgent."""
    line = Line(ledger)
    flex, plain, urgent = (job(ONE, tier) for tier in (Tier.FLEX, Tier.DEFAULT, Tier.PRIORITY))
    other = job(TWO, Tier.FLEX)
    ledger.charge(ONE, prompt=1)
    for each in (flex, plain, urgent, other):
        line.append(each)
    assert order(line) == [other, urgent, plain, flex]


@pytest.mark.parametrize("tier", Tier)
def test_nobody_waits_for_ever(ledger: Ledger, tier: Tier) -> None:
    """Not even while urgent requests keep coming."""
    line, old, new = Line(ledger), job(tier=tier), job(tier=Tier.PRIORITY)
    old.arrived -= PATIENCE + 1
    line.append(old)
    line.append(new)
    assert order(line) == [old, new]


def test_what_was_parked_goes_on_first(ledger: Ledger) -> None:
    line, urgent, parked = Line(ledger), job(tier=Tier.PRIORITY), job(tier=Tier.FLEX)
    line.append(urgent)
    line.append(parked)
    assert line.parked() is None
    parked.parked.append(object())  # type: ignore[arg-type] - some sequence
    assert line.parked() is parked
    assert order(line) == [parked, urgent]


def test_who_may_not_run_is_passed_over(ledger: Ledger) -> None:
    line, barred, free = Line(ledger), job(ONE), job(TWO)
    line.append(barred)
    line.append(free)
    assert line.first(lambda tenant: tenant != ONE) is free


@given(st.lists(st.tuples(st.sampled_from([NOBODY, ONE, TWO]), st.sampled_from(Tier))))
def test_all_who_came_are_let_out_once(arrivals: list[tuple[Tenant, Tier]]) -> None:
    line, jobs = Line(Ledger()), [job(*arrival) for arrival in arrivals]
    for each in jobs:
        line.append(each)
    assert len(line) == len(jobs)
    assert set(order(line)) == set(jobs)
    assert len(line) == 0
