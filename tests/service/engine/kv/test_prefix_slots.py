from __future__ import annotations

import pytest

from rapport.service.engine.kv.prefix_slots import MIN_PREFIX_TOKENS, PrefixSlots
from tests.service.engine.fake import FakeRunner

TEXT = list(range(100, 140))
SLOTS = 2
KEPT = range(SLOTS + 1, SLOTS + 3)


@pytest.fixture
def runner() -> FakeRunner:
    runner = FakeRunner(SLOTS)
    runner.contents += [[] for _ in KEPT]
    return runner


@pytest.fixture
def prefixes(runner: FakeRunner) -> PrefixSlots:
    return PrefixSlots(runner, KEPT, token_bytes=8, slot_tokens=64)


def keep(prefixes: PrefixSlots, runner: FakeRunner, tokens: list[int], namespace: str = "") -> None:
    runner.contents[0] = list(tokens)
    prefixes.save(namespace, tokens, 0)


def test_what_two_prompts_share_is_copied(prefixes: PrefixSlots, runner: FakeRunner) -> None:
    """To the token, and at least two tokens are left to compute."""
    keep(prefixes, runner, TEXT)
    assert prefixes.load("", [*TEXT[:20], 1, 2, 3], 1, 0) == 20
    assert runner.contents[1] == TEXT[:20]
    assert prefixes.load("", TEXT, 1, 0) == len(TEXT) - 2
    assert (prefixes.stats.hits, prefixes.stats.misses) == (2, 0)


def test_a_slot_that_holds_a_part_gets_the_rest(prefixes: PrefixSlots, runner: FakeRunner) -> None:
    """What was computed already stays; what is no longer is not copied."""
    keep(prefixes, runner, TEXT)
    runner.contents[1] = TEXT[:18]
    assert prefixes.load("", [*TEXT, 1, 2], 1, 18) == len(TEXT)
    assert runner.contents[1] == TEXT
    assert prefixes.load("", [*TEXT[:20], 1, 2, 3], 1, 30) == 30


def test_a_text_that_goes_on_keeps_its_slot(prefixes: PrefixSlots, runner: FakeRunner) -> None:
    """A prefix and its continuation take one slot, and only what is new is copied."""
    keep(prefixes, runner, TEXT[:20])
    runner.contents[KEPT[-1]][0] = 7  # so that a copy of the beginning would show
    keep(prefixes, runner, TEXT)
    assert runner.contents[KEPT[-1]] == [7, *TEXT[1:]]
    keep(prefixes, runner, TEXT[:30])
    assert (prefixes.stats.blocks, prefixes.stats.bytes) == (1, 8 * len(TEXT))


def test_the_least_recently_used_makes_room(prefixes: PrefixSlots, runner: FakeRunner) -> None:
    """A prefix that was found counts as used."""
    first, second, third = ([number, *TEXT] for number in range(3))
    keep(prefixes, runner, first)
    keep(prefixes, runner, second)
    assert prefixes.load("", [*first, 1, 2], 1, 0) == len(first)
    keep(prefixes, runner, third)
    assert prefixes.stats.evictions == 1
    assert prefixes.load("", [*first, 1, 2], 1, 0) == len(first)
    assert prefixes.load("", [*second, 1, 2], 1, 0) == 0


def test_namespaces_share_nothing(prefixes: PrefixSlots, runner: FakeRunner) -> None:
    """What one API key had computed is not found by another."""
    keep(prefixes, runner, TEXT, "one")
    assert prefixes.load("other", [*TEXT, 1, 2], 1, 0) == 0
    assert prefixes.load("one", [*TEXT, 1, 2], 1, 0) == len(TEXT)


def test_short_prefixes_are_not_kept(prefixes: PrefixSlots, runner: FakeRunner) -> None:
    """Neither saved nor found: to compute them takes no longer."""
    keep(prefixes, runner, TEXT[: MIN_PREFIX_TOKENS - 1])
    assert prefixes.stats.blocks == 0
    keep(prefixes, runner, TEXT)
    assert prefixes.load("", [*TEXT[: MIN_PREFIX_TOKENS - 1], 1, 2, 3], 1, 0) == 0


def test_a_copy_that_fails_loses_no_slot(
    prefixes: PrefixSlots, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot is free again, and nothing is found that is not there."""

    def fail(*_: int) -> None:
        raise MemoryError

    keep(prefixes, runner, TEXT)
    with monkeypatch.context() as broken:
        broken.setattr(runner, "copy", fail)
        for number in range(3):
            with pytest.raises(MemoryError):
                keep(prefixes, runner, [number, *TEXT])
    keep(prefixes, runner, [1, *TEXT])
    assert prefixes.load("", [1, *TEXT, 1, 2], 1, 0) == len(TEXT) + 1
