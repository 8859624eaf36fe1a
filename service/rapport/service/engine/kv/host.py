"""The keys and values of attention, in slots.

A layer has one buffer for keys and one for values, each [slots, kv_heads, capacity,
head_size]. The graph gets adjacent slots both as past and as present, so it appends in
place. One spare slot follows those that sequences use; two slots are exchanged through it.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS

# Up to this many bytes of a released slot are freed lazily: the kernel takes them only when it
# needs memory. Until then they can be written again without a page fault. Fresh pages, which the
# kernel zeroes first, cost three times as much as copying a prefix into them.
MAX_LAZY_BYTES = 96 * 2**20

# NumPy has no bfloat16: arrays hold its bits.
KV_TYPES: dict[str, type[Any]] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,
    "int8": np.int8,
}
# The numbers that ONNX gives the types (TensorProto.DataType).
KV_ELEMENTS = {"float32": 1, "float16": 10, "bfloat16": 16, "int8": 3}


class KeyValues(ABC):
    """Slots 0 to `slots` - 1, the spare one after them, and `kept` others.

    Each holds up to `capacity` tokens, by default as many as the model's context has.
    """

    def __init__(
        self, spec: ModelSpec, slots: int, capacity: int | None = None, kept: int = 0
    ) -> None:
        self.spec = spec
        self.slots = slots
        self.capacity = capacity or spec.context_length
        self.type = KV_TYPES[spec.kv_type]
        self.element: int = KV_ELEMENTS[spec.kv_type]
        """The type by which graphs take keys and values."""
        self.shape = (slots + 1 + kept, spec.kv_heads, self.capacity, spec.head_size)
        layers = range(spec.layers)
        past, present = spec.inputs, spec.outputs
        self.past_names = [past.past_key.format(layer=layer) for layer in layers]
        self.past_names += [past.past_value.format(layer=layer) for layer in layers]
        self.present_names = [present.present_key.format(layer=layer) for layer in layers]
        self.present_names += [present.present_value.format(layer=layer) for layer in layers]

    @abstractmethod
    def bind(self, binding: ort.IOBinding, first: int, count: int) -> None:
        """Binds slots `first` to `first + count - 1` as past and present."""

    @abstractmethod
    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Copies the tokens of a slot from `start` to `length` to another."""

    @abstractmethod
    def release(self, slot: int, length: int, kept: int = 0) -> None:
        """Frees the memory of the first `length` tokens of a slot, except the first `kept`.

        Also frees what a rejected draft left after them: up to `MAX_DRAFT_TOKENS` tokens.
        """

    def exchange(self, one: int, one_length: int, other: int, other_length: int) -> None:
        """Exchanges the contents of two slots."""
        spare = self.slots
        self.copy(one, spare, one_length)
        self.copy(other, one, other_length)
        self.copy(spare, other, one_length)
        self.release(spare, one_length)
        self.release(one, one_length, kept=other_length)
        self.release(other, other_length, kept=one_length)


def bytes_per_token(spec: ModelSpec) -> int:
    """Memory of the keys and values of one token, in bytes."""
    item_bytes = np.dtype(KV_TYPES[spec.kv_type]).itemsize
    return 2 * spec.layers * spec.kv_heads * spec.head_size * item_bytes


class HostKeyValues(KeyValues):
    """Slots in the host's memory. Pages that were never written take no memory.

    A released slot may keep up to `MAX_LAZY_BYTES`, which the kernel can take at any time.
    """

    def __init__(self, spec: ModelSpec, slots: int) -> None:
        super().__init__(spec, slots)
        size = int(np.prod(self.shape)) * np.dtype(self.type).itemsize
        self._maps = [_anonymous_memory(size) for _ in self.past_names]
        self._lazy_advice = lazy_free_advice(self._maps[0])
        self._lazy_tokens = MAX_LAZY_BYTES // bytes_per_token(spec)
        self._arrays = [np.frombuffer(m, self.type).reshape(self.shape) for m in self._maps]

    def bind(self, binding: ort.IOBinding, first: int, count: int) -> None:
        names = zip(self.past_names, self.present_names, self._arrays, strict=True)
        for past, present, array in names:
            window = ort.OrtValue.ortvalue_from_numpy(array[first : first + count])
            binding.bind_ortvalue_input(past, window)
            binding.bind_ortvalue_output(present, window)

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        for array in self._arrays:
            array[target, :, start:length] = array[source, :, start:length]

    def read(self, slot: int, start: int, count: int) -> NDArray[Any]:
        """A copy of `count` tokens of a slot: [2 * layers, kv_heads, count, head_size]."""
        _, heads, _, size = self.shape
        tokens = np.empty((len(self._arrays), heads, count, size), self.type)
        for place, array in enumerate(self._arrays):
            tokens[place] = array[slot, :, start : start + count]
        return tokens

    def write(self, slot: int, start: int, tokens: NDArray[Any], count: int) -> None:
        """Writes the first `count` tokens of what `read` returned to a slot, from `start` on."""
        for place, array in enumerate(self._arrays):
            array[slot, :, start : start + count] = tokens[place, :, :count]

    def release(self, slot: int, length: int, kept: int = 0) -> None:
        token_bytes = self.spec.head_size * np.dtype(self.type).itemsize
        head_bytes = self.spec.context_length * token_bytes
        for head in range(self.spec.kv_heads):
            # Only whole pages are freed: none that has kept tokens or the start of the next head.
            start = (slot * self.spec.kv_heads + head) * head_bytes
            first = _next_page(start + kept * token_bytes)
            lazy_end = _next_page(start + self._lazy_tokens * token_bytes)
            end = _next_page(start + (length + MAX_DRAFT_TOKENS) * token_bytes)
            end = min(end, (start + head_bytes) // mmap.PAGESIZE * mmap.PAGESIZE)
            for memory in self._maps:
                _advise(memory, self._lazy_advice, first, min(lazy_end, end))
                _advise(memory, mmap.MADV_DONTNEED, max(first, lazy_end), end)


def _next_page(offset: int) -> int:
    """The start of the first page at or after an offset in bytes."""
    return -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE


def _advise(memory: mmap.mmap, advice: int, start: int, end: int) -> None:
    if start < end:
        memory.madvise(advice, start, end - start)


def lazy_free_advice(memory: mmap.mmap) -> int:
    """The `madvise` advice that frees pages lazily; at once on kernels that cannot."""
    with suppress(OSError):
        memory.madvise(mmap.MADV_FREE, 0, mmap.PAGESIZE)
        return mmap.MADV_FREE
    return mmap.MADV_DONTNEED


def _anonymous_memory(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # A huge page may span a head's whole capacity: one token would take memory for all of it.
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
