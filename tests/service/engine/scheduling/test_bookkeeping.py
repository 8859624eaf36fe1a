"""The engine against a model of its bookkeeping: whatever comes, in any order, adds up.

Requests of all kinds are submitted and left, steps fail in all ways. The engine is stepped by
hand in place of its thread, and each of its events is taken in at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import (
    EngineError,
    OutOfMemoryError,
    OverloadedError,
    RequestCancelledError,
    StepFailedError,
    UnserviceableRequestError,
)
from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.prefix_store import BLOCK_TOKENS
from rapport.service.engine.request import Delta, GenerationRequest, Tenant, Tier
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from tests.service.engine.fake import (
    CONTEXT,
    END,
    ShortSlices,
    byte_vocabulary,
    fake_spec,
    greedy,
)
from tests.service.engine.fragile import (
    AtOnce,
    FragileBytes,
    FragileGrammar,
    FragileRunner,
    Trap,
)

SLOTS = 3
MAX_WAITING = 4
BYTES_PER_TOKEN = 8
CONFIG = EngineConfig(
    slots=SLOTS,
    max_waiting=MAX_WAITING,
    max_ttft=0,
    kv_budget_bytes=150 * BYTES_PER_TOKEN,
    prefix_bytes=6 * BLOCK_TOKENS * BYTES_PER_TOKEN,
)
STEM = "0123456789abcdefghijklmnopqrstuv"
GRAMMARS = ['start: "yes" | "no"', "start: /[a-m]{1,20}/", "start: /(ab|cd)+/"]
# What fails, and of whose step it then was: of all that decode, or of one request.
POINTS = ("decode", "verify", "prefill", "read", "write", "start", "text")
ERRORS: dict[type[Exception], type[EngineError]] = {
    RuntimeError: StepFailedError,
    MemoryError: OutOfMemoryError,
}


@cache
def grammars() -> list[Any]:
    compiler = GrammarCompiler(byte_vocabulary(), [END])
    return [compiler.compile(source) for source in GRAMMARS]


def by_hand(trap: Trap, *, drafts: bool) -> tuple[Engine, FragileRunner]:
    """An engine that is open, without a thread."""
    runner, vocabulary = FragileRunner(SLOTS, trap), byte_vocabulary()
    vocabulary.token_bytes = FragileBytes(vocabulary.token_bytes, trap)
    engine = Engine(runner, fake_spec(), vocabulary, replace(CONFIG, drafts=drafts))
    engine._worker._executor._latency_model = ShortSlices()
    engine._loop = AtOnce()  # type: ignore[assignment] - what the engine needs of one
    engine._closed_reason = None
    return engine, runner


def alone(request: GenerationRequest) -> dict[int, list[int]]:
    """The tokens of each choice where nothing else runs and nothing fails."""
    engine, _ = by_hand(Trap(), drafts=False)
    generation = engine.submit(request)
    while not generation.ended:
        engine._worker.step()
    tokens: dict[int, list[int]] = {}
    for delta in generation._pending:
        tokens.setdefault(delta.index, []).extend(delta.token_ids)
    return tokens


class Watched:
    """A request, what it should give, and all that came of it."""

    def __init__(self, generation: Generation, right: dict[int, list[int]]) -> None:
        self.generation = generation
        self.right = right
        self.heard: dict[int, list[int]] = {}
        self.finished: set[int] = set()
        self.ends = 0
        self.left = False
        self._add, self._fail = generation.add, generation.fail
        vars(generation).update(add=self.add, fail=self.fail)

    def add(self, delta: Delta) -> None:
        assert not self.ends, "a delta after the end"
        assert delta.index not in self.finished, "a delta after the choice's end"
        self.heard.setdefault(delta.index, []).extend(delta.token_ids)
        if delta.finish_reason is not None:
            self.finished.add(delta.index)
        self._add(delta)
        self.ends += self.generation.ended

    def fail(self, error: EngineError) -> None:
        self.ends += 1
        self._fail(error)

    def check(self) -> None:
        """One outcome; what was heard is right, and whole where nothing went wrong."""
        assert self.ends == 1
        for index, tokens in self.heard.items():
            assert tokens == self.right[index][: len(tokens)]
        if self.generation.error is None:
            assert self.heard == self.right


class Books(RuleBasedStateMachine):
    """Requests of all kinds come, step, fail and leave in any order."""

    drafts = True

    def __init__(self) -> None:
        super().__init__()
        self.trap = Trap()
        self.engine, self.runner = by_hand(self.trap, drafts=self.drafts)
        self.scheduler = self.engine._scheduler
        self.trap.look = self.decoding
        self.live: list[Watched] = []
        self.ended: list[Watched] = []
        self.outcomes: Counter[str] = Counter()

    @rule(
        stem=st.integers(0, 1),
        rest=st.text("abc", min_size=1, max_size=20),
        max_tokens=st.integers(1, 30),
        n=st.integers(1, 5),
        grammar=st.none() | st.sampled_from(range(len(GRAMMARS))),
        options=st.fixed_dictionaries(
            {
                "stop": st.sampled_from([(), ("a",), ("ab", "xyz")]),
                "namespace": st.sampled_from(["", "other"]),
                "tenant": st.sampled_from([Tenant(), Tenant("one"), Tenant("two")]),
                "tier": st.sampled_from(Tier),
            }
        ),
    )
    def submit(
        self,
        *,
        stem: int,
        rest: str,
        max_tokens: int,
        n: int,
        grammar: int | None,
        options: dict[str, Any],
    ) -> None:
        constraint = None if grammar is None else grammars()[grammar]
        request = sound = greedy(STEM * stem + rest, max_tokens, n=n, grammar=constraint, **options)
        if constraint is not None:
            request = replace(sound, grammar=FragileGrammar(constraint, self.trap))
        fits = len(request.prompt) + max_tokens <= CONTEXT
        accepted, waiting = self.engine.counters.accepted, self.engine.waiting
        try:
            generation = self.engine.submit(request)
        except (UnserviceableRequestError, OverloadedError):
            assert self.engine.counters.accepted == accepted
            assert waiting or not fits
            return
        assert fits
        self.live.append(Watched(generation, alone(sound)))
        self.outcomes["accepted"] += 1

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        """The caller goes or its deadline passes: the engine hears the same."""
        leaver = data.draw(st.sampled_from(self.live))
        leaver.left = True
        self.engine._cancel(leaver.generation)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def leave_too_late(self, data: Any) -> None:
        """The news of the end and of the leaving cross: the end stands."""
        self.engine._cancel(data.draw(st.sampled_from(self.ended)).generation)

    @rule(point=st.sampled_from(POINTS), error=st.sampled_from(list(ERRORS)))
    def set_trap(self, point: str, error: type[Exception]) -> None:
        if point != "read" or error is MemoryError:
            self.trap.point, self.trap.error = point, error

    @precondition(lambda self: len(self.scheduler.decoding) > 1)
    @rule(error=st.sampled_from(list(ERRORS)))
    def set_trap_for_several(self, error: type[Exception]) -> None:
        self.trap.point, self.trap.error = "decode", error

    @precondition(lambda self: self.live)
    @rule(count=st.integers(1, 5))
    def step(self, count: int) -> None:
        for _ in range(count):
            if self.live:
                self.one_step()

    def one_step(self) -> None:
        idle = self.engine._worker.idle
        assert not idle, "a request that nobody knows of"
        self.engine._worker.step()
        struck = [each for each in self.live if self.was_struck(each)]
        self.check_harm(struck)
        self.trap.sprung = ""
        for each in [each for each in self.live if each.generation.ended]:
            self.live.remove(each)
            self.ended.append(each)
            each.check()
            self.count(each)

    def was_struck(self, watched: Watched) -> bool:
        return isinstance(watched.generation.error, tuple(ERRORS.values()))

    def check_harm(self, struck: list[Watched]) -> None:
        """A failing step harms those whose step it was."""
        point, harmed = self.trap.sprung, {each.generation for each in struck}
        if not point:
            assert not struck
        elif point == "read":
            # A prefix is not kept, which harms nobody; or a newcomer gets no slot of another's.
            assert len(struck) <= 1
        elif point == "decode" and self.trap.error is RuntimeError:
            assert harmed == self.trap.seen
        else:
            assert len(struck) == 1
        for each in struck:
            assert type(each.generation.error) is ERRORS[self.trap.error]

    def decoding(self) -> set[Generation]:
        return {sequence.group.generation for sequence in self.scheduler.decoding}

    def count(self, watched: Watched) -> None:
        match watched.generation.error:
            case None:
                self.outcomes["finished"] += 1
            case RequestCancelledError():
                assert watched.left
                self.outcomes["cancelled"] += 1
            case _:
                self.outcomes["failed"] += 1

    @invariant()
    def requests_add_up(self) -> None:
        counters = self.engine.counters
        counted = (counters.accepted, counters.finished, counters.cancelled, counters.failed)
        names = ("accepted", "finished", "cancelled", "failed")
        assert counted == tuple(self.outcomes[name] for name in names)
        assert self.engine._live == {each.generation for each in self.live}
        assert counters.accepted == sum(counted[1:]) + len(self.live)

    @invariant()
    def slots_and_tokens_add_up(self) -> None:
        scheduler = self.scheduler
        running = [*scheduler.decoding, *scheduler.prefilling]
        assert scheduler.counters.taken - scheduler.counters.released == len(running)
        used = [sequence.slot for sequence in running]
        assert sorted([*used, *scheduler._slot_table.free]) == list(range(SLOTS))
        assert not any(self.runner.contents[slot] for slot in scheduler._slot_table.free)
        preempted = [
            each for group in self.engine._worker.groups.values() for each in group.preempted
        ]
        reserved = sum(sequence.group.tokens for sequence in (*running, *preempted))
        assert scheduler.free_tokens == CONFIG.kv_budget_bytes // BYTES_PER_TOKEN - reserved >= 0

    @invariant()
    def prefixes_add_up(self) -> None:
        prefixes = self.engine._worker._prefixes._prefixes
        assert prefixes is not None
        store = prefixes._store
        assert store.bytes == sum(node.data.nbytes for node in store._recent)
        assert store.bytes <= CONFIG.prefix_bytes

    def teardown(self) -> None:
        self.trap.point = ""
        while self.live:
            self.one_step()
        self.requests_add_up()
        assert self.scheduler.idle
        assert self.scheduler.counters.taken == self.scheduler.counters.released
        assert not self.engine._worker.groups
        assert len(self.scheduler.ledger) == 0
        assert not any(self.runner.contents[:SLOTS])


class BooksWithoutDrafts(Books):
    """The same where each token is a run of its own."""

    drafts = False


SETTINGS = settings(max_examples=30, stateful_step_count=40)
Books.TestCase.settings = SETTINGS
BooksWithoutDrafts.TestCase.settings = SETTINGS
TestBooks = Books.TestCase
TestBooksWithoutDrafts = BooksWithoutDrafts.TestCase
