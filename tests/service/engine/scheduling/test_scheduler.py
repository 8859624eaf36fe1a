"""What callers feel of the scheduler, in steps of the worker: each is a run of the model."""

from __future__ import annotations

import pytest

from rapport.service.engine.generation import Generation
from rapport.service.engine.messages import AddRequest, dispatch
from rapport.service.engine.request import Tenant
from rapport.service.engine.scheduling.latency_model import SLICE_GRAIN_TOKENS
from rapport.service.engine.scheduling.scheduler import HEADROOM_DIVISOR, Scheduler
from rapport.service.engine.worker import Worker
from tests.service.engine.fake import (
    END,
    FakeRunner,
    ShortSlices,
    byte_vocabulary,
    expected,
    greedy,
)

SLOTS = 2 * HEADROOM_DIVISOR
PROMPT = "a prompt of some three slices, no more"
VOCABULARY = byte_vocabulary()


class House:
    """A worker, stepped by hand."""

    def __init__(self, budget: int = 100_000, slots: int = SLOTS, *, memory: bool = True) -> None:
        runner = FakeRunner(slots)
        if not memory:
            runner.memory = None
        self.scheduler = Scheduler(runner, VOCABULARY, {END}, budget)
        self.worker = Worker(runner, self.scheduler, ShortSlices(), None, dispatch)

    def submit(
        self, key: str, count: int = 1, max_tokens: int = 20, *, user: str = "", n: int = 1
    ) -> list[Generation]:
        request = greedy(PROMPT, max_tokens, n=n, tenant=Tenant(key, user))
        generations = [Generation(request, lambda _: None) for _ in range(count)]
        for generation in generations:
            self.worker.put(AddRequest(generation))
        return generations

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            if not self.worker.idle:
                self.worker.step()

    def steps_to_first_token(self, key: str) -> int:
        (generation,) = self.submit(key, max_tokens=1)
        steps = 0
        while generation.completion_tokens == 0:
            self.step()
            steps += 1
        return steps

    def held_by(self, key: str) -> int:
        sequences = (*self.scheduler.decoding, *self.scheduler.prefilling)
        return sum(sequence.tenant.key == key for sequence in sequences)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("before", [1, 10, 60, 120])
def test_fifty_requests_of_another_do_not_double_the_steps_to_the_first_token(
    house: House, before: int
) -> None:
    """Whether the greedy one's prompts are read, or its answers fill all slots it can get."""
    slices = -(-len(PROMPT) // SLICE_GRAIN_TOKENS)
    house.submit("greedy", 50)
    house.step(before)
    assert house.steps_to_first_token("other") <= 2 * slices


def test_one_alone_may_fill_the_house(house: House) -> None:
    """Until another comes, who gets a slot at once; what gave it goes on when one is free."""
    greedy = house.submit("greedy", 50, max_tokens=500)
    house.step(80)
    assert house.held_by("greedy") == SLOTS
    (other,) = house.submit("other", max_tokens=2)
    house.step()
    assert (house.held_by("greedy"), house.held_by("other")) == (SLOTS - 1, 1)
    while not other.ended:
        house.step()
    house.step()
    assert house.held_by("greedy") == SLOTS
    assert sum(generation.started for generation in greedy) == SLOTS


def test_a_newcomer_whose_first_choice_ends_at_once_harms_nobody(house: House) -> None:
    """The next choice takes over its slot and has its first token before anybody's next."""
    others = house.submit("greedy", SLOTS, max_tokens=500)
    house.step(80)
    newcomer = Generation(greedy("ab", 1, n=3, tenant=Tenant("other")), lambda _: None)
    house.worker.put(AddRequest(newcomer))
    while not newcomer.ended:
        house.step()
    assert (newcomer.error, newcomer.completion_tokens) == (None, 3)
    assert not any(other.error for other in others)


def test_what_was_parked_ends_as_it_would_have(house: House) -> None:
    """Also what was preempted in the middle of its prompt, and with choices to come."""
    greedy = [
        *house.submit("greedy", 20, max_tokens=9),
        *house.submit("greedy", max_tokens=9, n=20),
    ]
    for step in range(400):
        if step % 3 == 0:
            house.submit(f"visitor {step % 5}", max_tokens=1)
        house.step()
    for generation in greedy:
        deltas = [delta.token_ids for delta in generation._pending]
        assert deltas == [expected(PROMPT.encode(), 9)] * generation.request.n


def test_users_of_a_key_have_one_share_of_the_slots(house: House) -> None:
    """Who invents users takes slots from the own key's, not from another's."""
    house.submit("honest", 50, max_tokens=500)
    house.step(80)
    for number in range(30):
        house.submit("inventor", user=str(number), max_tokens=500)
    house.step(80)
    assert house.held_by("honest") == SLOTS / 2


@pytest.mark.parametrize(("key", "most"), [("greedy", SLOTS - 2), ("", SLOTS)])
def test_where_nothing_can_be_parked_the_last_slots_are_kept(key: str, most: int) -> None:
    """For those who have none; where nobody says who asks there is nobody to keep one for."""
    house = House(memory=False)
    house.submit(key, 50, max_tokens=500)
    house.step(80)
    assert house.held_by(key) == most
    house.submit("other")
    house.step()
    assert house.held_by("other") == (most < SLOTS)


def test_the_last_tokens_are_kept_for_those_who_hold_no_slot() -> None:
    """Long answers of one leave room for another."""
    house = House(budget=8 * 100)
    house.submit("greedy", 8, max_tokens=100 - len(PROMPT))
    house.step(40)
    assert house.held_by("greedy") == 7
    house.submit("other", max_tokens=100 - len(PROMPT))
    house.step()
    assert house.held_by("other") == 1


def test_what_was_parked_goes_on_where_another_waits_for_tokens() -> None:
    """It holds its own tokens, for which the other would wait for ever."""
    house = House(budget=200, slots=2)
    preempted = house.submit("greedy", 2, max_tokens=80 - len(PROMPT))
    house.step(8)
    house.submit("other", max_tokens=1)
    house.step()
    assert house.held_by("greedy") == 1
    (large,) = house.submit("large", max_tokens=200 - len(PROMPT))
    house.step(500)
    assert large.ended
    assert all(generation.ended for generation in preempted)


def test_two_tenants_get_equal_shares(house: House) -> None:
    """Of a long time, however many requests each has in line."""
    house.submit("many", 200)
    house.submit("few", 100)
    house.step(200)
    assert len(house.scheduler.waiting) > 0
    served = [house.scheduler.ledger.served(Tenant(tenant))[0] for tenant in ("many", "few")]
    assert served[0] == pytest.approx(served[1], rel=0.2)


def test_a_tenant_that_holds_most_slots_crowds_the_others_out(house: House) -> None:
    house.submit("greedy", 50, max_tokens=500)
    house.step(60)
    assert house.scheduler.crowded_out(Tenant("other"))
    assert not house.scheduler.crowded_out(Tenant("greedy"))
