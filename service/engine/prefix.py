"""Keys and values of prompts that were computed before, by their tokens.

Prompts often begin alike: a system prompt, the earlier turns of a chat, a retry. What
was computed for a beginning is kept in blocks and copied into a slot when it comes again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

BLOCK = 32
"""Tokens in a block."""


class SlotMemory(Protocol):
    """Slots whose contents can be read and written."""

    def read(self, slot: int, start: int, count: int) -> NDArray[Any]:
        """A copy of `count` tokens of a slot."""

    def write(self, slot: int, start: int, tokens: NDArray[Any]) -> None:
        """Puts what `read` gave into a slot, from token `start` on."""


@dataclass(slots=True, eq=False)
class Node:
    """A block behind those before it: the same tokens elsewhere are another block."""

    siblings: dict[Hashable, Node]
    key: Hashable
    data: NDArray[Any]
    children: dict[Hashable, Node] = field(default_factory=dict)


class PrefixStore:
    """Blocks of keys and values, of which those used last stay within `budget` bytes.

    Callers with different namespaces share nothing, so that the time an answer takes
    tells none of them what another one asked.
    """

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self._budget = budget
        self._roots: dict[Hashable, Node] = {}
        self._recent: OrderedDict[Node, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent)

    def match(self, namespace: str, tokens: Sequence[int]) -> list[NDArray[Any]]:
        """The blocks that `tokens` begin with, in order."""
        nodes = self._stored(blocks_of(namespace, tokens))
        self._touch(nodes)
        return [node.data for node in nodes]

    def extend(
        self, namespace: str, tokens: Sequence[int], read: Callable[[int], NDArray[Any]]
    ) -> None:
        """Stores the blocks of `tokens` that are not; `read` gets the place of a block."""
        keys = blocks_of(namespace, tokens)
        nodes = self._stored(keys)
        for place in range(len(nodes), len(keys)):
            siblings = nodes[-1].children if nodes else self._roots
            node = Node(siblings, keys[place], read(place))
            siblings[node.key] = node
            self.bytes += node.data.nbytes
            nodes.append(node)
        self._touch(nodes)
        while self.bytes > self._budget:
            self._evict()

    def _stored(self, keys: Sequence[Hashable]) -> list[Node]:
        nodes: list[Node] = []
        children = self._roots
        for key in keys:
            node = children.get(key)
            if node is None:
                break
            nodes.append(node)
            children = node.children
        return nodes

    def _touch(self, nodes: Sequence[Node]) -> None:
        # The first last: a block is always more recent than those behind it, so that
        # the least recent one has none behind it.
        for node in reversed(nodes):
            self._recent[node] = None
            self._recent.move_to_end(node)

    def _evict(self) -> None:
        node, _ = self._recent.popitem(last=False)
        del node.siblings[node.key]
        self.bytes -= node.data.nbytes


def blocks_of(namespace: str, tokens: Sequence[int]) -> list[Hashable]:
    """The keys of the whole blocks of `tokens`; the first one's has the namespace."""
    starts = range(0, len(tokens) - BLOCK + 1, BLOCK)
    keys: list[Hashable] = [tuple(tokens[start : start + BLOCK]) for start in starts]
    return [(namespace, keys[0]), *keys[1:]] if keys else []


class Prefixes:
    """Moves prefixes between the slots of a runner and a store."""

    def __init__(self, store: PrefixStore, memory: SlotMemory) -> None:
        self._store = store
        self._memory = memory

    def load(self, namespace: str, tokens: Sequence[int], slot: int, computed: int) -> int:
        """Puts into a slot that holds `computed` of `tokens` what is stored of the others.

        Two tokens at least are left to compute: the last one's logits are needed, and a
        run of a single token rounds otherwise than the run of many that it stands for.
        Returns how many tokens the slot holds then.
        """
        blocks = self._store.match(namespace, tokens[: max(len(tokens) - 2, 0)])
        for place in range(computed // BLOCK, len(blocks)):
            self._memory.write(slot, place * BLOCK, blocks[place])
        return max(computed, len(blocks) * BLOCK)

    def save(self, namespace: str, tokens: Sequence[int], slot: int) -> None:
        """Stores the whole blocks of `tokens`, all of which the slot holds."""
        self._store.extend(
            namespace, tokens, lambda place: self._memory.read(slot, place * BLOCK, BLOCK)
        )
