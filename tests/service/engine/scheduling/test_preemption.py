from __future__ import annotations

from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Tenant
from rapport.service.engine.scheduling.preemption import Holdings
from rapport.service.engine.sequence import Job, Sequence
from tests.service.engine.fake import END, byte_vocabulary, greedy

VOCABULARY = byte_vocabulary()
ANN, BOB, EVE = Tenant("a", "ann"), Tenant("a", "bob"), Tenant("b", "eve")


def running(*tenants: Tenant, n: int = 1) -> list[Sequence]:
    """A sequence for each, in slots one after the other."""
    jobs = [
        Job(Generation(greedy("a", 5, n=n, tenant=tenant), lambda _: None)) for tenant in tenants
    ]
    return [Sequence(job, slot, VOCABULARY, {END}) for slot, job in enumerate(jobs)]


def test_the_newest_of_the_greediest_yields() -> None:
    """Of the key that holds most, and of it of the user that does."""
    sequences = running(ANN, ANN, BOB, EVE)
    holdings = Holdings(sequences)
    assert holdings.yielding_to("c") is sequences[1]
    assert holdings.yielding_to("a") is sequences[1]
    assert holdings.yielding_to("b") is sequences[1]


def test_a_key_keeps_as_many_as_the_one_that_gains() -> None:
    assert Holdings(running(ANN, BOB, EVE)).yielding_to("b") is None


def test_nobody_yields_the_only_slot_of_a_key() -> None:
    assert Holdings(running(ANN, EVE)).yielding_to("c") is None
    assert Holdings(running(ANN, BOB)).yielding_to("a") is None


def test_what_others_need_does_not_yield() -> None:
    """Neither the last to hold a prompt for choices to come, nor one whose first token is due."""
    plain, needed, due = running(ANN) + running(ANN, n=2) + running(ANN)
    due.computed = 1
    assert Holdings([plain, needed, due]).yielding_to("b") is plain
    assert Holdings([needed, due]).yielding_to("b") is None
    due.output.append(7)
    assert Holdings([needed, due]).yielding_to("b") is due


def test_most_of_another_is_of_one_key_or_of_one_user_of_the_same() -> None:
    holdings = Holdings(running(ANN, ANN, BOB, EVE))
    assert holdings.most_of_another(EVE) == 3
    assert holdings.most_of_another(BOB) == 2
    assert holdings.most_of_another(ANN) == 1
    assert holdings.has(EVE)
    assert not holdings.has(Tenant("c"))
