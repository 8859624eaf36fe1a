"""Slots that cannot be filled: with what was preempted, with a prefix, with a choice."""

from __future__ import annotations

import pytest

from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import EngineError, OutOfMemoryError, StepFailedError
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Tenant
from rapport.service.engine.scheduling.latency_model import SLICE_GRAIN_TOKENS
from tests.service.engine.fake import expected, greedy
from tests.service.engine.fragile import FragileGrammar, FragileRunner, Trap
from tests.service.engine.scheduling.test_bookkeeping import (
    BYTES_PER_TOKEN,
    CONFIG,
    SLOTS,
    by_hand,
    grammars,
)

ERRORS = pytest.mark.parametrize(
    ("error", "error_type"), [(RuntimeError, StepFailedError), (MemoryError, OutOfMemoryError)]
)
GREEDY, VISITOR = Tenant("greedy"), Tenant("visitor")
BLOCKS = "0123456789abcdefghijklmnopqrstuv" + "wxyz"
LENGTH = 12


class Desk:
    """An engine that is stepped by hand, and what it was asked."""

    def __init__(self) -> None:
        self.trap = Trap()
        made: tuple[Engine, FragileRunner] = by_hand(self.trap, drafts=False)
        self.engine, self.runner = made
        self.scheduler = self.engine._scheduler

    def ask(self, prompt: str, tenant: Tenant, length: int = LENGTH, n: int = 1) -> Generation:
        return self.engine.submit(greedy(prompt, length, n=n, tenant=tenant))

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.engine._worker.step()

    def finish(self, *asked: Generation) -> None:
        while not all(generation.ended for generation in asked):
            self.step()

    def spring(self, error: type[Exception]) -> None:
        """Steps until a write has failed."""
        self.trap.point, self.trap.error = "write", error
        while not self.trap.sprung:
            self.step()

    def check_books(self) -> None:
        """All that was taken has been given back."""
        assert self.scheduler.idle
        assert self.scheduler.counters.taken == self.scheduler.counters.released
        assert self.scheduler._slot_table.free == set(range(SLOTS))
        assert self.scheduler.reserved_tokens == 0
        assert self.scheduler.budget == CONFIG.kv_budget_bytes // BYTES_PER_TOKEN
        assert len(self.scheduler.ledger) == 0
        assert not self.engine._worker.groups
        assert not self.engine._live
        assert not any(self.runner.contents[:SLOTS])
        store = self.engine._worker._prefixes._prefixes._store  # type: ignore[union-attr] - it has one
        assert store.bytes == sum(node.data.nbytes for node in store._recent) <= CONFIG.prefix_bytes
        counters = self.engine.counters
        assert counters.accepted == counters.finished + counters.failed


@pytest.fixture
def desk() -> Desk:
    return Desk()


def is_right(generation: Generation) -> bool:
    """Whether each choice got all tokens that the prompt calls for."""
    request = generation.request
    tokens: dict[int, list[int]] = {}
    for delta in generation._pending:
        tokens.setdefault(delta.index, []).extend(delta.token_ids)
    right = expected(request.prompt, request.max_tokens)
    return generation.error is None and tokens == dict.fromkeys(range(request.n), right)


@ERRORS
@pytest.mark.parametrize(
    ("length", "steps"), [(3 * SLICE_GRAIN_TOKENS, 1), (4, 8)], ids=["prompt", "answer"]
)
def test_what_cannot_be_resumed_fails_alone(
    desk: Desk, error: type[Exception], error_type: type[EngineError], length: int, steps: int
) -> None:
    """It was preempted in its prompt or its answer, and cannot be put back; all others go on."""
    first, second = (desk.ask(letter, GREEDY, 30) for letter in "ab")
    desk.step(2)
    preempted = desk.ask("c" * length, GREEDY)
    desk.step(steps)
    visitor = desk.ask("visitor", VISITOR, 6)
    desk.step()
    (sequence,) = desk.engine._worker.groups[preempted].preempted
    assert sequence.computed > 0
    assert bool(sequence.output) == (length < SLICE_GRAIN_TOKENS)
    desk.spring(error)
    assert type(preempted.error) is error_type
    again = desk.ask("c" * length, GREEDY)
    desk.finish(first, second, visitor, again)
    assert all(map(is_right, (first, second, visitor, again)))
    desk.check_books()


@ERRORS
def test_a_request_with_a_choice_that_cannot_be_resumed_fails_whole(
    desk: Desk, error: type[Exception], error_type: type[EngineError]
) -> None:
    """Its other choices run, are preempted or have no slot yet: all give back what they had."""
    many = desk.ask("many", GREEDY, 14, n=5)
    desk.step(6)
    visitors = [desk.ask(letter, Tenant(letter), 2) for letter in "xy"]
    desk.step()
    group = desk.engine._worker.groups[many]
    assert group.preempted
    assert group.running
    desk.spring(error)
    assert type(many.error) is error_type
    again = desk.ask("many", GREEDY, n=3)
    desk.finish(*visitors, again)
    assert all(map(is_right, (*visitors, again)))
    desk.check_books()


@ERRORS
@pytest.mark.parametrize("slots_for_others", [0, SLOTS - 1], ids=["forked", "handed over"])
@pytest.mark.parametrize("choice", [0, 1, 2])
def test_a_choice_that_cannot_begin_fails_its_request(
    desk: Desk,
    error: type[Exception],
    error_type: type[EngineError],
    slots_for_others: int,
    choice: int,
) -> None:
    """The first, in a slot of its own, or another, in a copied or handed over one."""
    others = [desk.ask(letter, VISITOR, 60) for letter in "abc"[:slots_for_others]]
    if others:
        desk.step(8)
    begins = iter(range(10))
    grammar = FragileGrammar(grammars()[1], lambda _: _fail(error) if next(begins) == choice else 0)
    failing = desk.engine.submit(greedy("some", 6, n=3, grammar=grammar))
    while not failing.ended:
        desk.step()
    assert type(failing.error) is error_type
    again = desk.ask("some", GREEDY, n=3)
    desk.finish(*others, again)
    assert all(map(is_right, (*others, again)))
    desk.check_books()


@ERRORS
@pytest.mark.parametrize("n", [1, 3])
def test_a_prefix_that_cannot_be_written_fails_its_request(
    desk: Desk, error: type[Exception], error_type: type[EngineError], n: int
) -> None:
    """Others decode meanwhile. The prefix stays, and the next that begins with it is right."""
    desk.finish(desk.ask(BLOCKS, GREEDY))
    beside = [desk.ask(letter, GREEDY, 20) for letter in "xy"]
    desk.step(4)
    kept = desk.engine.prefix_stats.bytes
    failing = desk.ask(BLOCKS, VISITOR, n=n)
    desk.spring(error)
    assert type(failing.error) is error_type
    assert failing.cached_tokens == 0
    assert desk.engine.prefix_stats.bytes == kept
    again = desk.ask(BLOCKS, VISITOR, n=n)
    desk.finish(*beside, again)
    assert all(map(is_right, (*beside, again)))
    assert again.cached_tokens > 0
    desk.check_books()


@ERRORS
def test_half_a_prefix_counts_as_none(
    desk: Desk, error: type[Exception], error_type: type[EngineError]
) -> None:
    """The first of its blocks is in the slot already: who has the slot next sees nothing of it."""
    desk.finish(desk.ask(BLOCKS, GREEDY))
    writes = iter((False, True))
    desk.runner.before = lambda point: _fail(error) if point == "write" and next(writes) else None
    failing = desk.ask(BLOCKS, GREEDY)
    desk.finish(failing)
    assert type(failing.error) is error_type
    desk.runner.before = desk.trap
    others = [desk.ask(prompt, GREEDY) for prompt in ("other", BLOCKS[:20], BLOCKS)]
    desk.finish(*others)
    assert all(map(is_right, others))
    desk.check_books()


def _fail(error: type[Exception]) -> None:
    raise error
