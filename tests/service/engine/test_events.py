"""What the engine's thread tells the event loop, and when."""

from __future__ import annotations

import time

import pytest

from service.engine.events import Event, Outbox
from service.engine.generation import Generation
from service.engine.scheduler import Scheduler
from service.engine.worker import Worker
from tests.service.engine.fake import (
    END,
    FakeRunner,
    ShortSlices,
    byte_vocabulary,
    expected,
    greedy,
)

MANY = 1000
"""Readers to whom messages go every half of a second."""


@pytest.fixture
def delivered() -> list[list[Event]]:
    return []


@pytest.fixture
def outbox(delivered: list[list[Event]]) -> Outbox:
    """One that has just sent something, and has an event to send."""
    outbox = Outbox(delivered.append)
    outbox.add(lambda: None)
    outbox.send()
    outbox.add(lambda: None)
    delivered.clear()
    return outbox


def test_events_of_fast_steps_wait_for_each_other(
    outbox: Outbox, delivered: list[list[Event]]
) -> None:
    """Messages to many readers would take what the next step needs."""
    outbox.send_spaced(MANY, time.monotonic())
    assert not delivered
    outbox.add(lambda: None)
    outbox.send()
    assert [len(events) for events in delivered] == [2]


def test_slow_step_is_told_of_at_once(outbox: Outbox, delivered: list[list[Event]]) -> None:
    """Where another step like it would end too late."""
    outbox.send_spaced(MANY, time.monotonic() - 1)
    assert [len(events) for events in delivered] == [1]


def test_few_readers_do_not_wait(outbox: Outbox, delivered: list[list[Event]]) -> None:
    """Steps of five milliseconds come one by one to four readers, and the last step to all."""
    outbox.send_spaced(4, time.monotonic() - 0.005)
    outbox.add(lambda: None)
    outbox.send_spaced(0, time.monotonic())
    assert [len(events) for events in delivered] == [1, 1]


def test_nothing_is_sent_where_there_is_nothing(
    outbox: Outbox, delivered: list[list[Event]]
) -> None:
    """The loop is woken for events only."""
    outbox.send()
    outbox.send()
    outbox.send_spaced(0, 0)
    assert len(delivered) == 1


class Waking:
    """A worker with a model that takes no time; notes how often it wakes the loop."""

    def __init__(self, slots: int) -> None:
        self.runner = FakeRunner(slots)
        scheduler = Scheduler(self.runner, byte_vocabulary(), {END}, budget=64 * slots)
        self.worker = Worker(self.runner, scheduler, ShortSlices(), None, self._deliver)
        self.wakes = 0

    def ask(self, prompt: str, max_tokens: int) -> Generation:
        generation = Generation(greedy(prompt, max_tokens), lambda _: None)
        self.worker.add(generation)
        return generation

    def _deliver(self, events: list[Event]) -> None:
        self.wakes += 1
        for event in events:
            event()


def test_fast_model_wakes_the_loop_less_often_than_it_steps() -> None:
    """And no token is lost, whenever each answer ends."""
    waking = Waking(slots=32)
    made = [waking.ask("ab", max_tokens=20 + number) for number in range(32)]
    for _ in made:
        waking.worker.step()
    before, steps = waking.wakes, 0
    while not all(generation.ended for generation in made):
        waking.worker.step()
        steps += 1
    assert waking.wakes - before < steps
    said = [[token for delta in one._pending for token in delta.token_ids] for one in made]
    assert said == [expected(b"ab", 20 + number) for number in range(32)]


def test_tokens_do_not_wait_for_a_prompt() -> None:
    """A slice of it may take long: what was held up is sent before."""
    waking = Waking(slots=32)
    made = [waking.ask("ab", max_tokens=60) for _ in range(31)]
    for _ in made:
        waking.worker.step()
    waking.ask("c" * 30, max_tokens=1)
    known: list[tuple[int, int]] = []

    def note(kind: str) -> None:
        if kind == "prefill":
            decoded = len(waking.runner.contents[0]) - len("ab") + 1
            known.append((made[0].completion_tokens, decoded))

    waking.runner.before = note
    for _ in range(3):
        waking.worker.step()
    assert known
    assert all(told == decoded for told, decoded in known)
