from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rapport.service.engine.errors import RequestCancelledError
from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.prefix_cache import PrefixCache
from rapport.service.engine.kv.prefix_store import BLOCK_TOKENS, PrefixStore
from rapport.service.engine.messages import AbortRequest, AddRequest, Event, dispatch
from rapport.service.engine.request import Tenant, Tier
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

SLOTS = 3
BUDGET = 300
TENANTS = [Tenant(), Tenant("a", "one"), Tenant("a", "two"), Tenant("b")]
VOCABULARY = byte_vocabulary()


class Bookkeeping(RuleBasedStateMachine):
    """Requests of all sizes come, step and leave in any order."""

    deterministic = False
    drafts = True

    def __init__(self) -> None:
        super().__init__()
        self.runner = FakeRunner(SLOTS)
        self.scheduler = Scheduler(self.runner, VOCABULARY, {END}, BUDGET)
        self.store = PrefixStore(6 * BLOCK_TOKENS * 8)  # a token of the fake is 8 bytes
        prefixes = PrefixCache(self.store, self.runner)
        self.worker = Worker(
            self.runner,
            self.scheduler,
            ShortSlices(),
            prefixes,
            self.deliver,
            deterministic=self.deterministic,
            drafts=self.drafts,
        )
        self.live: list[Generation] = []
        self.heard: dict[Generation, dict[int, list[int]]] = {}

    def deliver(self, events: list[Event]) -> None:
        dispatch(events)
        for generation in tuple(self.live):
            self.listen(generation)

    def listen(self, generation: Generation) -> None:
        for delta in generation._pending:
            self.heard[generation].setdefault(delta.index, []).extend(delta.token_ids)
        generation._pending.clear()
        generation._growing.clear()
        if generation.ended:
            self.live.remove(generation)
            if generation.error is None:
                self.check(generation)

    def check(self, generation: Generation) -> None:
        """Every choice got the tokens that its prompt alone calls for."""
        request = generation.request
        tokens = expected(request.prompt, request.max_tokens)
        assert self.heard[generation] == dict.fromkeys(range(request.n), tokens)

    @rule(
        stem=st.integers(0, 3),
        rest=st.text("abc", min_size=1, max_size=40),
        max_tokens=st.integers(1, 40),
        n=st.integers(1, 7),
        options=st.fixed_dictionaries(
            {
                "namespace": st.sampled_from(["", "other"]),
                "tenant": st.sampled_from(TENANTS),
                "foretold": st.integers(0, 40),
                "tier": st.sampled_from(Tier),
            }
        ),
    )
    def submit(
        self, stem: int, rest: str, max_tokens: int, n: int, options: dict[str, Any]
    ) -> None:
        prompt = "0123456789abcdefghijklmnopqrstuv" * stem + rest
        prediction = (*expected(prompt.encode(), options.pop("foretold")), 0, 1, 2)
        request = greedy(prompt, max_tokens, n=n, prediction=prediction, **options)
        generation = Generation(request, lambda _: None)
        self.live.append(generation)
        self.heard[generation] = {}
        self.worker.put(AddRequest(generation))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        self.worker.put(
            AbortRequest(data.draw(st.sampled_from(self.live)), RequestCancelledError("left"))
        )

    @precondition(lambda self: self.live)
    @rule()
    def step(self) -> None:
        self.worker.step()

    @invariant()
    def decoding_sequences_are_a_dense_prefix(self) -> None:
        slots = [sequence.slot for sequence in self.scheduler.decoding]
        assert slots == list(range(len(slots)))

    @invariant()
    def every_slot_is_free_or_has_one_sequence(self) -> None:
        sequences = [*self.scheduler.decoding, *self.scheduler.prefilling]
        used = [sequence.slot for sequence in sequences]
        assert sorted([*used, *self.scheduler._slot_table.free]) == list(range(SLOTS))

    @invariant()
    def reserved_tokens_are_those_of_running_sequences(self) -> None:
        sequences = [*self.scheduler.decoding, *self.scheduler.prefilling]
        preempted = [
            sequence for group in self.worker.groups.values() for sequence in group.preempted
        ]
        reserved = sum(sequence.group.tokens for sequence in (*sequences, *preempted))
        assert self.scheduler.free_tokens == BUDGET - reserved >= 0

    @invariant()
    def stored_prefixes_stay_within_their_budget(self) -> None:
        assert self.store.bytes <= 6 * BLOCK_TOKENS * 8

    def teardown(self) -> None:
        while self.live:
            self.worker.step()
        assert self.scheduler.idle
        assert self.scheduler.counters.taken == self.scheduler.counters.released
        assert not self.worker.groups
        assert len(self.scheduler.ledger) == 0
        left = [len(content) for content in self.runner.contents[:SLOTS]]
        assert max(left) <= self.deterministic, "more than the token beside a lone sequence"


class PaddedBookkeeping(Bookkeeping):
    """A lone sequence's step writes into the slot behind its own, and harms nobody there."""

    deterministic = True


class WithoutDrafts(Bookkeeping):
    """The same where each token is a run of its own."""

    drafts = False


SETTINGS = settings(max_examples=20, stateful_step_count=40)
Bookkeeping.TestCase.settings = SETTINGS
WithoutDrafts.TestCase.settings = SETTINGS
TestBookkeeping = Bookkeeping.TestCase
PaddedBookkeeping.TestCase.settings = Bookkeeping.TestCase.settings
TestPaddedBookkeeping = PaddedBookkeeping.TestCase
TestBookkeepingWithoutDrafts = WithoutDrafts.TestCase
