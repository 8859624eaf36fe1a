from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import ANONYMOUS, Tenant, Tier
from rapport.service.engine.scheduling.fairness import ServiceLedger
from rapport.service.engine.scheduling.waiting_queue import MAX_OVERTAKEN_S, WaitingQueue
from rapport.service.engine.sequences import SequenceGroup
from tests.service.engine.fake import greedy

ONE, TWO = Tenant("one"), Tenant("two")


@pytest.fixture
def ledger() -> ServiceLedger:
    ledger = ServiceLedger()
    for tenant in (ANONYMOUS, ONE, TWO):
        ledger.enter(tenant)
    return ledger


def group(tenant: Tenant = ANONYMOUS, tier: Tier = Tier.DEFAULT) -> SequenceGroup:
    return SequenceGroup(Generation(greedy("a", 1, tenant=tenant, tier=tier), lambda _: None))


def order(line: WaitingQueue) -> list[SequenceGroup]:
    groups = []
    while (first := line.first(lambda _: True)) is not None:
        line.remove(first)
        groups.append(first)
    return groups


def test_one_tenant_waits_in_order_of_arrival(ledger: ServiceLedger) -> None:
    line, groups = WaitingQueue(ledger), [group() for _ in range(4)]
    for each in groups:
        line.append(each)
    assert order(line) == groups


def test_the_least_served_goes_first(ledger: ServiceLedger) -> None:
    line, early, late = WaitingQueue(ledger), group(ONE), group(TWO)
    ledger.charge(ONE, prompt=1)
    line.append(early)
    line.append(late)
    assert order(line) == [late, early]


def test_of_equals_the_one_that_waits_longer_goes_first(ledger: ServiceLedger) -> None:
    """Fresh names that call everything urgent do not overtake."""
    line, early = WaitingQueue(ledger), group(ONE)
    late = group(TWO, Tier.PRIORITY)
    line.append(late)
    line.append(early)
    assert order(line) == [early, late]


def test_tiers_count_within_a_tenant_only(ledger: ServiceLedger) -> None:
    """Nobody gets more than a share by calling everything urgent."""
    line = WaitingQueue(ledger)
    flex, plain, urgent = (group(ONE, tier) for tier in (Tier.FLEX, Tier.DEFAULT, Tier.PRIORITY))
    other = group(TWO, Tier.FLEX)
    ledger.charge(ONE, prompt=1)
    for each in (flex, plain, urgent, other):
        line.append(each)
    assert order(line) == [other, urgent, plain, flex]


@pytest.mark.parametrize("tier", Tier)
def test_nobody_waits_for_ever(ledger: ServiceLedger, tier: Tier) -> None:
    """Not even while urgent requests keep coming."""
    line, old, new = WaitingQueue(ledger), group(tier=tier), group(tier=Tier.PRIORITY)
    old.arrived -= MAX_OVERTAKEN_S + 1
    line.append(old)
    line.append(new)
    assert order(line) == [old, new]


def test_what_was_parked_goes_on_first(ledger: ServiceLedger) -> None:
    line, urgent, preempted = WaitingQueue(ledger), group(tier=Tier.PRIORITY), group(tier=Tier.FLEX)
    line.append(urgent)
    line.append(preempted)
    assert line.preempted() is None
    preempted.preempted.append(object())  # type: ignore[arg-type] - some sequence
    assert line.preempted() is preempted
    assert order(line) == [preempted, urgent]


def test_who_may_not_run_is_passed_over(ledger: ServiceLedger) -> None:
    line, barred, free = WaitingQueue(ledger), group(ONE), group(TWO)
    line.append(barred)
    line.append(free)
    assert line.first(lambda tenant: tenant != ONE) is free


@given(st.lists(st.tuples(st.sampled_from([ANONYMOUS, ONE, TWO]), st.sampled_from(Tier))))
def test_all_who_came_are_let_out_once(arrivals: list[tuple[Tenant, Tier]]) -> None:
    line, groups = WaitingQueue(ServiceLedger()), [group(*arrival) for arrival in arrivals]
    for each in groups:
        line.append(each)
    assert len(line) == len(groups)
    assert set(order(line)) == set(groups)
    assert len(line) == 0
