from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.request import Tenant
from rapport.service.engine.scheduling import fairness
from rapport.service.engine.scheduling.fairness import (
    CREDIT_TOKENS,
    OUTPUT_WEIGHT,
    FairShares,
    ServiceLedger,
)

FAR = 10 * CREDIT_TOKENS


def test_a_tenant_pays_for_prompt_and_output() -> None:
    ledger, tenant = ServiceLedger(), Tenant("key", "ann")
    ledger.enter(tenant)
    ledger.charge(tenant, prompt=10, output=3)
    assert ledger.served(tenant) == (10 + 3 * OUTPUT_WEIGHT, 10 + 3 * OUTPUT_WEIGHT)


def test_a_key_pays_for_all_its_users() -> None:
    """A user of a busy key goes behind one of an idle key, and before its own key's busy user."""
    ledger = ServiceLedger()
    busy, fresh, other = Tenant("a", "busy"), Tenant("a", "fresh"), Tenant("b")
    for tenant in (busy, fresh, other):
        ledger.enter(tenant)
    ledger.charge(busy, prompt=100)
    assert sorted((busy, fresh, other), key=ledger.served) == [other, fresh, busy]


def test_inventing_users_gains_nothing_against_other_keys() -> None:
    """Of many equal turns a key gets half, whether it names one user or a new one each time."""
    ledger, turns = ServiceLedger(), Counter[str]()
    honest = Tenant("honest", "ann")
    ledger.enter(honest)
    for number in range(1000):
        invented = Tenant("inventor", str(number))
        ledger.enter(invented)
        first = min(honest, invented, key=ledger.served)
        ledger.charge(first, prompt=100)
        turns[first.key] += 1
        ledger.leave(invented)
    assert turns["inventor"] - turns["honest"] <= 2 * CREDIT_TOKENS / 100


def test_time_away_is_little_credit() -> None:
    """Who comes later starts a little below the least served of those present."""
    shares = FairShares()
    for claimant in ("one", "two"):
        shares.enter(claimant)
    shares.charge("one", FAR + 50)
    shares.charge("two", FAR)
    shares.enter("late")
    assert shares.served("late") == FAR - CREDIT_TOKENS


def test_leaving_and_coming_back_clears_no_debt() -> None:
    """What one was served stays known, so that the credit is not given twice."""
    shares = FairShares()
    shares.enter("greedy")
    shares.enter("other")
    for served in (CREDIT_TOKENS / 2, FAR):
        shares.charge("greedy", served - shares.served("greedy"))
        shares.leave("greedy")
        shares.enter("greedy")
        assert shares.served("greedy") == served


def test_only_those_served_most_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "MAX_REMEMBERED", 2)
    shares = FairShares()
    shares.enter("present")
    for number in range(1, 5):
        shares.enter(str(number))
        shares.charge(str(number), number)
        shares.leave(str(number))
    assert len(shares) == 3
    assert [shares.served(str(number)) for number in range(1, 5)] == [0, 0, 3, 4]


TENANTS = [Tenant(key, user) for key in "ab" for user in ("ann", "bob")]
steps = st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from(["enter", "leave", "charge"])))


@given(steps)
def test_nobody_is_remembered_once_all_are_gone(steps: list[tuple[Tenant, str]]) -> None:
    """Whatever comes and goes, an empty house keeps no names."""
    ledger, present = ServiceLedger(), Counter[Tenant]()
    for tenant, step in steps:
        if step == "enter":
            ledger.enter(tenant)
            present[tenant] += 1
        elif present[tenant] and step == "leave":
            ledger.leave(tenant)
            present[tenant] -= 1
        elif present[tenant]:
            ledger.charge(tenant, prompt=1)
    for tenant in present.elements():
        ledger.leave(tenant)
    assert len(ledger) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5000)), max_size=200))
def test_nobody_who_always_waits_falls_behind(turns: list[tuple[str, int]]) -> None:
    """Who comes and leaves at will gains no more than a turn and credit, from any moment on."""
    shares = FairShares()
    shares.enter("waiting")
    ahead, least_ahead = Counter("abc"), Counter("abc")
    for visitor, size in turns:
        shares.enter(visitor)
        first = min("waiting", visitor, key=shares.served)
        shares.charge(first, size)
        ahead.update({visitor: size} if first == visitor else dict.fromkeys(ahead, -size))
        shares.leave(visitor)
        least_ahead = Counter({each: min(least_ahead[each], ahead[each]) for each in ahead})
        assert ahead[visitor] - least_ahead[visitor] <= CREDIT_TOKENS + 5000
