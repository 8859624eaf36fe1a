from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.engine.fairness import OUTPUT_WEIGHT, Ledger


def test_a_tenant_pays_for_prompt_and_output() -> None:
    ledger = Ledger()
    ledger.enter("one")
    ledger.charge("one", prompt=10, output=3)
    assert ledger.served("one") == 10 + 3 * OUTPUT_WEIGHT


def test_time_away_is_no_credit() -> None:
    """Who comes later starts where the least served of those present is."""
    ledger = Ledger()
    for tenant in ("one", "two"):
        ledger.enter(tenant)
    ledger.charge("one", prompt=100)
    ledger.charge("two", prompt=60)
    ledger.enter("late")
    assert ledger.served("late") == 60


def test_leaving_and_coming_back_clears_no_debt() -> None:
    """While somebody present has been served less, what one was served stays known."""
    ledger = Ledger()
    ledger.enter("greedy")
    ledger.enter("other")
    ledger.charge("greedy", prompt=500)
    ledger.leave("greedy")
    ledger.enter("greedy")
    assert ledger.served("greedy") == 500


steps = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["enter", "leave", "charge"])))


@given(steps)
def test_nobody_is_remembered_once_all_are_gone(steps: list[tuple[str, str]]) -> None:
    """Whatever comes and goes, an empty house keeps no names."""
    ledger, present = Ledger(), Counter[str]()
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
