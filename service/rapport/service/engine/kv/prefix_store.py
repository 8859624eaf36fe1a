"""Stores the keys and values of prompts that were computed before, by their tokens.

Prompts often share a prefix: a system prompt, the earlier turns of a chat, a retry. The keys
and values of a prefix are kept in blocks, and copied into a slot when the prefix comes again.
Where two prompts differ within a block, the tokens of it that they share are copied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

BLOCK_TOKENS = 32
"""Tokens in a block; the last block of a text that ended may have fewer."""

# How many of the blocks that follow the same prefix are compared token by token, newest first.
MAX_COMPARED_BLOCKS = 64

Key = tuple[str, tuple[int, ...]]
"""A block's namespace and tokens."""


class SlotMemory(Protocol):
    """Slots whose contents can be read and written."""

    def read(self, slot: int, start: int, count: int) -> NDArray[Any]:
        """A copy of `count` tokens of a slot."""

    def write(self, slot: int, start: int, tokens: NDArray[Any], count: int) -> None:
        """Writes the first `count` tokens of what `read` returned to a slot, from `start` on."""


@dataclass(slots=True, eq=False)
class Node:
    """A block in the tree of prefixes: the same tokens after another prefix are another node."""

    siblings: dict[Key, Node]
    key: Key
    data: NDArray[Any]
    children: dict[Key, Node] = field(default_factory=dict)


class Piece(NamedTuple):
    """The first `length` tokens of a block."""

    data: NDArray[Any]
    length: int


class PrefixStore:
    """A tree of blocks. The least recently used ones are evicted to stay within `budget` bytes.

    Namespaces share nothing. Otherwise a caller could learn from the time of an answer what
    another one had asked.
    """

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self.budget = budget
        self.evictions = 0
        self._roots: dict[Key, Node] = {}
        self._recent: OrderedDict[Node, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent)

    def match(self, namespace: str, tokens: Sequence[int]) -> list[Piece]:
        """The stored blocks that `tokens` begin with, in order; the last may be part of a block."""
        keys = _blocks_of(namespace, tokens)
        nodes = self._find(keys)
        pieces = [Piece(node.data, len(node.key[1])) for node in nodes]
        if len(nodes) < len(keys):
            node, count = self._closest(self._children(nodes), keys[len(nodes)])
            if node is not None:
                nodes.append(node)
                pieces.append(Piece(node.data, count))
        self._touch(nodes)
        return pieces

    def extend(
        self,
        namespace: str,
        tokens: Sequence[int],
        read: Callable[[int, int], NDArray[Any]],
        *,
        ended: bool = False,
    ) -> None:
        """Stores those blocks of `tokens` that are not stored yet.

        `read(index, count)` returns the keys and values of a block, which has `count` tokens.
        A last block that is not full is stored only if the text has `ended`.
        """
        keys = _blocks_of(namespace, tokens)
        if keys and len(keys[-1][1]) < BLOCK_TOKENS and not ended:
            keys.pop()
        nodes = self._find(keys)
        try:
            self._add(nodes, keys, read)
        finally:
            # If `read` failed, the blocks stored before stay: they count, and can be evicted.
            self._touch(nodes)
            while self.bytes > self.budget:
                self._evict()

    def _add(
        self, nodes: list[Node], keys: Sequence[Key], read: Callable[[int, int], NDArray[Any]]
    ) -> None:
        for index in range(len(nodes), len(keys)):
            siblings, key = self._children(nodes), keys[index]
            size = len(key[1])
            if size < BLOCK_TOKENS and self._closest(siblings, key)[1] == size:
                break  # a longer block begins with these tokens
            node = Node(siblings, key, read(index, size))
            siblings[key] = node
            self.bytes += node.data.nbytes
            nodes.append(node)

    def _children(self, nodes: Sequence[Node]) -> dict[Key, Node]:
        """The blocks that follow those of a path."""
        return nodes[-1].children if nodes else self._roots

    def _closest(self, siblings: dict[Key, Node], key: Key) -> tuple[Node | None, int]:
        """The block with the longest common prefix with `key`, and the prefix's length."""
        closest, longest = None, 0
        for other, node in islice(reversed(siblings.items()), MAX_COMPARED_BLOCKS):
            count = _common_prefix(other[1], key[1]) if other[0] == key[0] else 0
            if count > longest:
                closest, longest = node, count
        return closest, longest

    def _find(self, keys: Sequence[Key]) -> list[Node]:
        """The path of stored blocks that `keys` begin with."""
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
        # In reverse: a block is then always more recent than those that follow it, so the
        # least recent block has no children.
        for node in reversed(nodes):
            self._recent[node] = None
            self._recent.move_to_end(node)

    def _evict(self) -> None:
        node, _ = self._recent.popitem(last=False)
        del node.siblings[node.key]
        self.bytes -= node.data.nbytes
        self.evictions += 1


def _blocks_of(namespace: str, tokens: Sequence[int]) -> list[Key]:
    """The keys of the blocks of `tokens`; the last block may have fewer tokens than the others."""
    starts = range(0, len(tokens), BLOCK_TOKENS)
    return [(namespace, tuple(tokens[start : start + BLOCK_TOKENS])) for start in starts]


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common prefix of two texts, in tokens."""
    pairs = enumerate(zip(one, other, strict=False))
    differing = (index for index, (a, b) in pairs if a != b)
    return next(differing, min(len(one), len(other)))
