from __future__ import annotations

import pytest

from service.engine.fairness import Ledger
from service.engine.generation import Generation
from service.engine.line import PATIENCE, Line
from service.engine.request import Tier
from service.engine.sequence import Job
from tests.service.engine.fake import greedy


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    for tenant in ("", "one", "two"):
        ledger.enter(tenant)
    return ledger


def job(tenant: str = "", tier: Tier = Tier.DEFAULT) -> Job:
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
    line, early, late = Line(ledger), job("one"), job("two")
    ledger.charge("one", prompt=1)
    line.append(early)
    line.append(late)
    assert order(line) == [late, early]


def test_tiers_count_within_a_tenant_only(ledger: Ledger) -> None:
    """Nobody gets more than a share by calling everything urgent."""
    line = Line(ledger)
    flex, plain, urgent = (job("one", tier) for tier in (Tier.FLEX, Tier.DEFAULT, Tier.PRIORITY))
    other = job("two", Tier.FLEX)
    ledger.charge("one", prompt=1)
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


def test_who_may_not_run_is_passed_over(ledger: Ledger) -> None:
    line, barred, free = Line(ledger), job("one"), job("two")
    line.append(barred)
    line.append(free)
    assert line.first(lambda each: each is not barred) is free
