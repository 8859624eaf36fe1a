"""What callers feel of the scheduler, in steps of the worker: each is a run of the model."""

from __future__ import annotations

import pytest

from service.engine.generation import Generation
from service.engine.pace import GRAIN
from service.engine.scheduler import SLOTS_PER_RESERVED, Scheduler
from service.engine.worker import Event, Worker
from tests.service.engine.fake import END, FakeRunner, ShortSlices, byte_vocabulary, greedy

SLOTS = 2 * SLOTS_PER_RESERVED
PROMPT = "a prompt of some three slices, no more"
VOCABULARY = byte_vocabulary()


class House:
    """A worker, stepped by hand."""

    def __init__(self) -> None:
        runner = FakeRunner(SLOTS)
        self.scheduler = Scheduler(runner, VOCABULARY, {END}, budget=100_000)
        self.worker = Worker(runner, self.scheduler, ShortSlices(), None, deliver)

    def submit(self, tenant: str, count: int = 1, max_tokens: int = 20) -> list[Generation]:
        request = greedy(PROMPT, max_tokens, tenant=tenant)
        generations = [Generation(request, lambda _: None) for _ in range(count)]
        for generation in generations:
            self.worker.add(generation)
        return generations

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.worker.step()

    def steps_to_first_token(self, tenant: str) -> int:
        (generation,) = self.submit(tenant, max_tokens=1)
        steps = 0
        while generation.completion_tokens == 0:
            self.step()
            steps += 1
        return steps

    def held_by(self, tenant: str) -> int:
        sequences = (*self.scheduler.decoding, *self.scheduler.prefilling)
        return sum(sequence.tenant == tenant for sequence in sequences)


def deliver(events: list[Event]) -> None:
    for event in events:
        event()


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("before", [1, 10, 60, 120])
def test_fifty_requests_of_another_do_not_double_the_steps_to_the_first_token(
    house: House, before: int
) -> None:
    """Whether the greedy one's prompts are read, or its answers fill all slots it can get."""
    slices = -(-len(PROMPT) // GRAIN)
    house.submit("greedy", 50)
    house.step(before)
    assert house.steps_to_first_token("other") <= 2 * slices


def test_the_last_slots_are_for_those_who_have_none(house: House) -> None:
    house.submit("greedy", 50, max_tokens=500)
    house.step(60)
    assert house.held_by("greedy") == SLOTS - 2
    house.submit("other")
    house.step()
    assert house.held_by("other") == 1


def test_the_nameless_may_fill_the_house(house: House) -> None:
    """Where nobody says who asks, there is nobody to keep a slot for."""
    house.submit("", 50, max_tokens=500)
    house.step(80)
    assert house.held_by("") == SLOTS


def test_two_tenants_get_equal_shares(house: House) -> None:
    """Of a long time, however many requests each has in line."""
    house.submit("many", 200)
    house.submit("few", 100)
    house.step(200)
    assert len(house.scheduler.waiting) > 0
    served = [house.scheduler.ledger.served(tenant) for tenant in ("many", "few")]
    assert served[0] == pytest.approx(served[1], rel=0.2)


def test_a_tenant_that_holds_most_slots_crowds_the_others_out(house: House) -> None:
    house.submit("greedy", 50, max_tokens=500)
    house.step(60)
    assert house.scheduler.crowded_out("other")
    assert not house.scheduler.crowded_out("greedy")
