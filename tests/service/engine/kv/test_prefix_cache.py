from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.prefix_cache import PrefixCache
from rapport.service.engine.kv.prefix_store import BLOCK_TOKENS, PrefixStore
from rapport.service.engine.messages import AddRequest, dispatch
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.worker import Worker
from tests.service.engine.fake import END, FakeRunner, ShortSlices, byte_vocabulary, greedy

Block = NDArray[Any]
BLOCK_BYTES = BLOCK_TOKENS * 8


class Slot:
    """One slot's contents."""

    def __init__(self, contents: list[int]) -> None:
        self.contents = contents

    def read(self, _: int, start: int, count: int) -> Block:
        return np.array(self.contents[start : start + count])

    def write(self, _: int, start: int, data: Block, count: int) -> None:
        self.contents[start : start + count] = data[:count].tolist()


@given(
    st.integers(0, 3 * BLOCK_TOKENS),
    st.integers(0, 3 * BLOCK_TOKENS + 3),
    st.integers(0, 3 * BLOCK_TOKENS),
    st.booleans(),
)
def test_a_loaded_slot_holds_what_it_says(
    stored: int, wanted: int, computed: int, ended: bool
) -> None:
    """After loading, the slot's first tokens are the prompt's, and two are left to compute."""
    store = PrefixStore(10 * BLOCK_BYTES)
    text = list(range(4 * BLOCK_TOKENS))
    PrefixCache(store, Slot(text)).save("", text[:stored], 0, ended=ended)
    computed = min(computed, wanted)
    slot = Slot(text[:computed])
    held = PrefixCache(store, slot).load("", text[:wanted], 0, computed)
    assert slot.contents[:held] == text[:held]
    assert held >= computed
    assert held == computed or held <= wanted - 2
    known = stored if ended else stored // BLOCK_TOKENS * BLOCK_TOKENS
    assert held == max(computed, min(known, max(wanted - 2, 0)))


@given(st.integers(1, 2 * BLOCK_TOKENS - 1), st.booleans())
def test_texts_that_part_within_a_block_share_it_up_to_there(parting: int, ended: bool) -> None:
    """Whichever of two texts was stored, the other takes what both begin with."""
    store = PrefixStore(10**6)
    one = [*range(parting), *range(1000, 1000 + 3 * BLOCK_TOKENS)]
    other = [*range(parting), *range(2000, 2000 + 3 * BLOCK_TOKENS)]
    PrefixCache(store, Slot(one)).save("", one, 0, ended=ended)
    slot = Slot([])
    assert PrefixCache(store, slot).load("", other, 0, 0) == parting
    assert slot.contents == other[:parting]


def test_an_end_that_is_known_is_not_stored_again() -> None:
    """Neither what ended alike before nor the beginning of a longer block takes memory twice."""
    store, text = PrefixStore(10**6), list(range(BLOCK_TOKENS + 20))
    prefixes = PrefixCache(store, Slot(text))
    prefixes.save("", text, 0, ended=True)
    stored = store.bytes
    for length in (BLOCK_TOKENS + 20, BLOCK_TOKENS + 7, BLOCK_TOKENS, 5):
        prefixes.save("", text[:length], 0, ended=True)
    assert store.bytes == stored


class Full(FakeRunner):
    """Slots of which nothing can be copied out."""

    def read(self, *_: int) -> NDArray[Any]:
        raise MemoryError


def test_a_prefix_that_cannot_be_kept_harms_no_request(caplog: pytest.LogCaptureFixture) -> None:
    """Without memory for prefixes a request ends as ever, in prefill and at its end."""
    runner = Full()
    scheduler = Scheduler(runner, byte_vocabulary(), {END}, budget=1000)
    prefixes = PrefixCache(PrefixStore(10**6), runner)
    worker = Worker(runner, scheduler, ShortSlices(), prefixes, dispatch)
    generation = Generation(greedy("a" * 40, 5), lambda _: None)
    worker.put(AddRequest(generation))
    while not generation.ended:
        worker.step()
    assert generation.error is None
    assert generation.completion_tokens == 5
    assert "out of memory" in caplog.text
