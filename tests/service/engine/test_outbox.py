"""What the engine's thread tells the event loop, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from rapport.service.engine.generation import Generation
from rapport.service.engine.messages import AddRequest, Event, PrefixReused, Stop, dispatch
from rapport.service.engine.outbox import MAX_SPACING_S, Outbox
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.logits import StepSettings
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.worker import Worker
from tests.service.engine.fake import (
    END,
    FakeRunner,
    ShortSlices,
    byte_vocabulary,
    expected,
    greedy,
)
from tests.service.engine.timed import Clock

SLOTS = 32
"""So many readers get a message every 16 ms."""
STEP = 0.001


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def an_event() -> Event:
    """One of those that there can be any number of."""
    return PrefixReused(Generation(greedy("a", 1), lambda _: None), 1)


def sends(clock: Clock, readers: int, step: float, steps: int) -> list[float]:
    """When something is delivered where each step has a token that can wait."""
    sent: list[float] = []
    outbox = Outbox(lambda _: sent.append(clock.now))
    for _ in range(steps):
        began = clock.now
        clock.work(step)
        outbox.add(an_event(), urgent=False)
        outbox.end_step(readers, began)
    return sent


def gaps(times: Sequence[float]) -> list[float]:
    return [later - sooner for sooner, later in pairwise(times)]


@pytest.mark.parametrize("step", [0.0005, 0.001, 0.003])
def test_many_readers_of_a_fast_model_get_messages_of_several_steps(
    clock: Clock, step: float
) -> None:
    """Half a millisecond apart for each of them at most, and at least half of that."""
    between = gaps(sends(clock, readers=16, step=step, steps=200))
    assert 0.004 <= min(between) <= max(between) <= 0.008


def test_however_many_readers_there_are_none_stutters(clock: Clock) -> None:
    between = gaps(sends(clock, readers=1000, step=0.001, steps=200))
    assert MAX_SPACING_S / 2 <= min(between) <= max(between) <= MAX_SPACING_S


@pytest.mark.parametrize(("readers", "step"), [(1, 0.001), (4, 0.0015), (16, 0.005), (64, 0.02)])
def test_others_get_each_token_by_itself(clock: Clock, readers: int, step: float) -> None:
    """Where the model is slower than messages are."""
    assert len(sends(clock, readers, step, steps=20)) == 20


def test_what_is_urgent_takes_all_with_it(clock: Clock) -> None:
    delivered: list[list[Event]] = []
    outbox = Outbox(delivered.append)
    outbox.add(an_event())
    outbox.send()
    outbox.add(an_event(), urgent=False)
    outbox.end_step(SLOTS, clock.now)
    outbox.add(an_event())
    outbox.end_step(SLOTS, clock.now)
    outbox.end_step(0, clock.now)
    assert [len(events) for events in delivered] == [1, 2]


class FastRunner(FakeRunner):
    """Takes a millisecond for whatever it does."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(SLOTS)
        self._clock = clock

    def decode(
        self, tokens: Sequence[int], pasts: Sequence[int], settings: StepSettings | None = None
    ) -> Floats:
        self._clock.work(STEP)
        return super().decode(tokens, pasts, settings)

    def copy(self, source: int, target: int, length: int) -> None:
        self.before("copy")
        super().copy(source, target, length)


class Waking:
    """A worker with a fast model; notes how often it wakes the loop."""

    def __init__(self, clock: Clock) -> None:
        self.runner = FastRunner(clock)
        self.scheduler = Scheduler(self.runner, byte_vocabulary(), {END}, budget=64 * SLOTS)
        self.worker = Worker(self.runner, self.scheduler, ShortSlices(), None, self._deliver)
        self.wakes = 0

    def ask(self, prompt: str, max_tokens: int) -> Generation:
        generation = Generation(greedy(prompt, max_tokens), lambda _: None)
        self.worker.put(AddRequest(generation))
        return generation

    def fill(self, max_tokens: int, but: int = 0) -> list[Generation]:
        """Requests in all slots but some, each of which has its first token."""
        made = [self.ask("ab", max_tokens) for _ in range(SLOTS - but)]
        for _ in made:
            self.worker.step()
        return made

    def _deliver(self, events: list[Event]) -> None:
        self.wakes += 1
        dispatch(events)


@pytest.fixture
def waking(clock: Clock) -> Waking:
    return Waking(clock)


def said(generation: Generation) -> list[int]:
    return [token for delta in generation._pending for token in delta.token_ids]


def test_fast_model_wakes_the_loop_less_often_than_it_steps(waking: Waking) -> None:
    """And no token is lost."""
    made = waking.fill(max_tokens=60)
    before, steps = waking.wakes, 0
    while not all(generation.ended for generation in made):
        waking.worker.step()
        steps += 1
    ends = SLOTS  # one after the other, as they began
    assert waking.wakes - before <= ends + steps / 16 + 1 < ends + steps
    assert [said(generation) for generation in made] == [expected(b"ab", 60)] * SLOTS


def test_first_and_last_tokens_are_told_of_at_once(waking: Waking) -> None:
    waking.fill(max_tokens=60, but=1)
    late = waking.ask("c", max_tokens=3)
    waking.worker.step()
    assert said(late) == expected(b"c", 1)
    waking.worker.step()
    waking.worker.step()
    assert late.ended
    assert said(late) == expected(b"c", 3)


def told_all(waking: Waking) -> bool:
    """Whether everybody who is alone in a request knows all of its tokens."""
    return all(
        sequence.group.generation.completion_tokens == len(sequence.output)
        for sequence in waking.scheduler.decoding
        if sequence.group.request.n == 1
    )


@pytest.mark.parametrize("kind", ["prefill", "copy"])
def test_tokens_do_not_wait_for_a_newcomer(waking: Waking, kind: str) -> None:
    """A slice of a prompt may take long, and so may a copy: what was held up is sent before.

    The second choice gets its copy when one of the others has ended.
    """
    waking.fill(max_tokens=50, but=1)
    waking.worker.step()
    waking.worker.put(AddRequest(Generation(greedy("c" * 30, 34, n=2), lambda _: None)))
    known: list[bool] = []

    def note(what: str) -> None:
        if what == kind:
            known.append(told_all(waking))

    waking.runner.before = note
    while not known:
        waking.worker.step()
    assert all(known)


def strike(waking: Waking, blow: Callable[[], None]) -> None:
    """Runs the worker's thread until a blow that comes while tokens are held up ends it."""
    steps = 0

    def note(what: str) -> None:
        nonlocal steps
        steps += what == "decode"
        if steps == 5:
            assert not told_all(waking)
            blow()

    waking.runner.before = note
    waking.worker.start(lambda: None).join(10)


def test_what_is_held_up_is_sent_at_the_end(waking: Waking) -> None:
    waking.fill(max_tokens=60)
    strike(waking, lambda: waking.worker.put(Stop()))
    assert told_all(waking)


class Panic(BaseException):
    """As Rust's."""


def test_what_is_held_up_is_sent_when_the_thread_dies(waking: Waking) -> None:
    waking.fill(max_tokens=60)

    def panic() -> None:
        raise Panic

    strike(waking, panic)
    assert told_all(waking)
