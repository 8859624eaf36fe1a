from __future__ import annotations

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Tenant
from rapport.service.engine.scheduling.preemption import SlotHoldings
from rapport.service.engine.sequences import SequenceGroup, SequenceState
from tests.service.engine.fake import END, byte_vocabulary, greedy

VOCABULARY = byte_vocabulary()
ANN, BOB, EVE = Tenant("a", "ann"), Tenant("a", "bob"), Tenant("b", "eve")


def running(*tenants: Tenant, n: int = 1) -> list[SequenceState]:
    """A sequence for each, in slots one after the other."""
    groups = [
        SequenceGroup(Generation(greedy("a", 5, n=n, tenant=tenant), lambda _: None))
        for tenant in tenants
    ]
    return [SequenceState(group, slot, VOCABULARY, {END}) for slot, group in enumerate(groups)]


def test_the_newest_of_the_greediest_yields() -> None:
    """Of the key that holds most, and of it of the user that does."""
    sequences = running(ANN, ANN, BOB, EVE)
    holdings = SlotHoldings(sequences)
    assert holdings.victim_for("c") is sequences[1]
    assert holdings.victim_for("a") is sequences[1]
    assert holdings.victim_for("b") is sequences[1]


def test_a_key_keeps_as_many_as_the_one_that_gains() -> None:
    assert SlotHoldings(running(ANN, BOB, EVE)).victim_for("b") is None


def test_nobody_yields_the_only_slot_of_a_key() -> None:
    assert SlotHoldings(running(ANN, EVE)).victim_for("c") is None
    assert SlotHoldings(running(ANN, BOB)).victim_for("a") is None


def test_what_others_need_does_not_yield() -> None:
    """Neither the last to hold a prompt for choices to come, nor one whose first token is due."""
    plain, needed, due = running(ANN) + running(ANN, n=2) + running(ANN)
    due.computed = 1
    assert SlotHoldings([plain, needed, due]).victim_for("b") is plain
    assert SlotHoldings([needed, due]).victim_for("b") is None
    due.output.append(7)
    assert SlotHoldings([needed, due]).victim_for("b") is due


def test_most_of_another_is_of_one_key_or_of_one_user_of_the_same() -> None:
    holdings = SlotHoldings(running(ANN, ANN, BOB, EVE))
    assert holdings.max_of_another(EVE) == 3
    assert holdings.max_of_another(BOB) == 2
    assert holdings.max_of_another(ANN) == 1
    assert holdings.holds(EVE)
    assert not holdings.holds(Tenant("c"))
