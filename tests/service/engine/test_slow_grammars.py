"""A grammar that takes long costs the request that brought it, and no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import ConstraintFailedError
from rapport.service.engine.request import GenerationRequest
from rapport.service.engine.sampling.constraint import Constraint, Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.sampling.grammar_limits import GrammarBudget
from tests.service.engine.fake import (
    END,
    FakeRunner,
    byte_vocabulary,
    collect,
    expected,
    fake_spec,
    greedy,
    settled,
)

VOCABULARY = byte_vocabulary()
PROMPT = "ab"
MAX_WAIT_S = 60
ANY = r"start: /(?s:.*)/"


class Held:
    """Holds the work of a grammar at its `after`-th token."""

    def __init__(self, after: int) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self._left = after

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            assert self.opened.wait(MAX_WAIT_S)


@pytest.fixture
def grammar() -> Grammar:
    return GrammarCompiler(VOCABULARY, [END]).compile(ANY)


@pytest.fixture
async def engine() -> Engine:
    return Engine(FakeRunner(), fake_spec(), VOCABULARY, EngineConfig())


@pytest.fixture(params=["accept", "prepare"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Either accepting a token takes long, or the mask after it."""
    held, real = Held(after=5), getattr(Constraint, request.param)

    def wait(self: Constraint, *token: int) -> None:
        if threading.current_thread().name.startswith("grammar"):
            held()
        real(self, *token)

    monkeypatch.setattr(Constraint, request.param, wait)
    yield held
    held.opened.set()


def text(count: int) -> str:
    return bytes(expected(PROMPT.encode(), count)).decode()


def under(grammar: Grammar, n: int = 1) -> GenerationRequest:
    return replace(greedy(PROMPT, 30, n=n), grammar=grammar)


async def test_others_go_on(engine: Engine, grammar: Grammar, held: Held) -> None:
    """A request whose grammar takes long waits; another one begins and ends meanwhile.

    The first one's answer is the same as ever.
    """
    engine.start(lambda: None)
    async with engine.submit(under(grammar, n=2)) as slow:
        assert await asyncio.to_thread(held.reached.wait, MAX_WAIT_S)
        async with engine.submit(greedy(PROMPT, 30)) as other:
            assert await collect(other) == {0: text(30)}
        assert not slow.ended
        held.opened.set()
        assert await collect(slow) == {0: text(30), 1: text(30)}
    await engine.stop()


async def test_a_caller_may_leave(engine: Engine, grammar: Grammar, held: Held) -> None:
    """A request whose grammar takes long can be cancelled, and gives back its slot at once."""
    engine.start(lambda: None)
    async with engine.submit(under(grammar)):
        assert await asyncio.to_thread(held.reached.wait, MAX_WAIT_S)
    await settled(engine)
    assert engine.counters.cancelled == 1
    assert engine.slot_counters.taken == engine.slot_counters.released
    await engine.stop()


async def test_a_budget_of_time(
    engine: Engine, grammar: Grammar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose grammar has used up its time fails, and says so; others go on."""
    real = GrammarBudget.charge
    monkeypatch.setattr(GrammarBudget, "charge", lambda self, _: real(self, 0.3))
    engine.start(lambda: None)
    async with engine.submit(under(grammar)) as slow, engine.submit(greedy(PROMPT, 30)) as other:
        assert await collect(other) == {0: text(30)}
        with pytest.raises(ConstraintFailedError, match="takes too much time"):
            await collect(slow)
    await engine.stop()
