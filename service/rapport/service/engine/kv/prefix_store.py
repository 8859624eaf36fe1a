"""Keys and values of prompts that were computed before, by their tokens.

Prompts often begin alike: a system prompt, the earlier turns of a chat, a retry. What
was computed for a beginning is kept in blocks and copied into a slot when it comes again.
Where two prompts part within a block, the tokens of it that they share are copied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

BLOCK_TOKENS = 32
"""Tokens in a block; the last one of a text that ended may have fewer."""

# Of the blocks that follow another, so many of the newest are compared token by token.
MAX_COMPARED_BLOCKS = 64

Key = tuple[str, tuple[int, ...]]
"""A block's namespace and tokens."""


class SlotMemory(Protocol):
    """Slots whose contents can be read and written."""

    def read(self, slot: int, start: int, count: int) -> NDArray[Any]:
        """A copy of `count` tokens of a slot."""

    def write(self, slot: int, start: int, tokens: NDArray[Any], count: int) -> None:
        """Puts the first `count` tokens of what `read` gave into a slot, from `start` on."""


@dataclass(slots=True, eq=False)
class Node:
    """A block behind those before it: the same tokens elsewhere are another block."""

    siblings: dict[Key, Node]
    key: Key
    data: NDArray[Any]
    children: dict[Key, Node] = field(default_factory=dict)


class Piece(NamedTuple):
    """The first `length` tokens of a block."""

    data: NDArray[Any]
    length: int


class PrefixStore:
    """Blocks of keys and values, of which those used last stay within `budget` bytes.

    Callers with different namespaces share nothing, so that the time an answer takes
    tells none of them what another one asked.
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
        """What `tokens` begin with, in order: whole blocks, and then a part of one."""
        keys = _blocks_of(namespace, tokens)
        nodes = self._stored(keys)
        pieces = [Piece(node.data, len(node.key[1])) for node in nodes]
        if len(nodes) < len(keys):
            node, count = self._closest(self._behind(nodes), keys[len(nodes)])
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
        """Stores the blocks of `tokens` that are not.

        `read` gets the place of a block and how many tokens it has: fewer than others for
        the last one of a text that has `ended`.
        """
        keys = _blocks_of(namespace, tokens)
        if keys and len(keys[-1][1]) < BLOCK_TOKENS and not ended:
            keys.pop()
        nodes = self._stored(keys)
        try:
            self._add(nodes, keys, read)
        finally:
            # What was stored before `read` failed counts and can go like all else.
            self._touch(nodes)
            while self.bytes > self.budget:
                self._evict()

    def _add(
        self, nodes: list[Node], keys: Sequence[Key], read: Callable[[int, int], NDArray[Any]]
    ) -> None:
        for place in range(len(nodes), len(keys)):
            siblings, key = self._behind(nodes), keys[place]
            size = len(key[1])
            if size < BLOCK_TOKENS and self._closest(siblings, key)[1] == size:
                break  # a longer one begins with it
            node = Node(siblings, key, read(place, size))
            siblings[key] = node
            self.bytes += node.data.nbytes
            nodes.append(node)

    def _behind(self, nodes: Sequence[Node]) -> dict[Key, Node]:
        return nodes[-1].children if nodes else self._roots

    def _closest(self, siblings: dict[Key, Node], key: Key) -> tuple[Node | None, int]:
        """The block that begins most like another, and how many tokens they share."""
        closest, most = None, 0
        for other, node in islice(reversed(siblings.items()), MAX_COMPARED_BLOCKS):
            count = _shared(other[1], key[1]) if other[0] == key[0] else 0
            if count > most:
                closest, most = node, count
        return closest, most

    def _stored(self, keys: Sequence[Key]) -> list[Node]:
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
        self.evictions += 1


def _blocks_of(namespace: str, tokens: Sequence[int]) -> list[Key]:
    """The keys of the blocks of `tokens`; the last may have fewer tokens than others."""
    starts = range(0, len(tokens), BLOCK_TOKENS)
    return [(namespace, tuple(tokens[start : start + BLOCK_TOKENS])) for start in starts]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    differing = (place for place, (mine, yours) in pairs if mine != yours)
    return next(differing, min(len(one), len(other)))
