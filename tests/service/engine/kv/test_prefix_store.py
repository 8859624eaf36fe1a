from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rapport.service.engine.kv.prefix_store import BLOCK_TOKENS, PrefixStore

Block = NDArray[Any]


def tokens(*blocks: int, rest: int = 0) -> list[int]:
    """Blocks that each repeat one token, and some more tokens."""
    return [block for block in blocks for _ in range(BLOCK_TOKENS)] + [99] * rest


def filled(store: PrefixStore, *blocks: int, namespace: str = "") -> None:
    """Stores blocks whose data are their own tokens, so that they can be told apart."""
    given_ = tokens(*blocks)
    store.extend(
        namespace,
        given_,
        lambda place, _: np.array(given_[place * BLOCK_TOKENS :][:BLOCK_TOKENS], np.int64),
    )


def found(store: PrefixStore, *blocks: int, namespace: str = "", rest: int = 0) -> list[int]:
    pieces = store.match(namespace, tokens(*blocks, rest=rest))
    return [int(piece.data[0]) for piece in pieces]


BLOCK_BYTES = BLOCK_TOKENS * 8


def test_the_longest_stored_beginning_is_found() -> None:
    """A prompt finds the blocks that it begins with, whatever follows them."""
    store = PrefixStore(10 * BLOCK_BYTES)
    filled(store, 1, 2, 3)
    assert found(store, 1, 2, 3, rest=5) == [1, 2, 3]
    assert found(store, 1, 2, 4) == [1, 2]
    assert found(store, 2, 3) == []
    assert found(store, 1, rest=BLOCK_TOKENS - 1) == [1]


def test_a_block_is_read_once() -> None:
    """What is stored already is not copied again."""
    store = PrefixStore(10 * BLOCK_BYTES)
    filled(store, 1, 2)
    read: list[int] = []

    def reading(place: int, _: int) -> Block:
        read.append(place)
        return np.zeros(BLOCK_TOKENS)

    store.extend("", tokens(1, 2, 3), reading)
    assert read == [2]


def test_what_was_stored_before_memory_ran_out_still_counts() -> None:
    """A block that cannot be read is not stored; those before it are found, and can go."""
    store = PrefixStore(2 * BLOCK_BYTES)

    def reading(place: int, _: int) -> Block:
        if place == 1:
            raise MemoryError
        return np.full(BLOCK_TOKENS, 1, np.int64)

    with pytest.raises(MemoryError):
        store.extend("", tokens(1, 2), reading)
    assert found(store, 1, 2) == [1]
    filled(store, 5, 6)
    assert found(store, 1) == []
    assert store.bytes == 2 * BLOCK_BYTES


def test_the_least_recently_used_go_first() -> None:
    """Over the budget, what was used longest ago goes, from the end of its chain on."""
    store = PrefixStore(4 * BLOCK_BYTES)
    filled(store, 1, 2)
    filled(store, 5, 6)
    assert found(store, 1) == [1]
    filled(store, 7)
    assert found(store, 1, 2) == [1]
    assert found(store, 5, 6) == [5, 6]
    assert store.bytes == 4 * BLOCK_BYTES


def test_namespaces_share_nothing() -> None:
    """What one namespace stored is not found from another, and both may store it."""
    store = PrefixStore(10 * BLOCK_BYTES)
    filled(store, 1, namespace="a")
    assert found(store, 1, namespace="b") == []
    filled(store, 1, namespace="b")
    assert len(store) == 2


def test_nothing_is_left_of_what_was_evicted() -> None:
    """Evicted blocks and namespaces take no memory."""
    store = PrefixStore(BLOCK_BYTES)
    filled(store, 1, namespace="gone")
    ((data, _),) = store.match("gone", tokens(1))
    gone = weakref.ref(data)
    del data
    filled(store, 2)
    gc.collect()
    assert gone() is None
    assert len(store._roots) == len(store) == 1


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=12), st.integers(0, 8))
def test_found_blocks_are_what_was_stored(chains: list[list[int]], budget: int) -> None:
    """Whatever is stored and evicted, a match is a beginning with its own data, in budget."""
    store = PrefixStore(budget * BLOCK_BYTES)
    for chain in chains:
        filled(store, *chain)
        assert store.bytes == len(store) * BLOCK_BYTES <= budget * BLOCK_BYTES
        matched = found(store, *chain)
        assert matched == chain[: len(matched)]
        assert len(matched) == min(len(chain), budget)
