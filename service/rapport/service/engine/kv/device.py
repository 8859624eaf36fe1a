"""The keys and values of attention in a GPU's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.host import KeyValues
from rapport.service.engine.runtime.device import (
    device_errors,
    device_zeros,
    run_on_device,
    run_options,
)
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.runtime.session import open_session

# Tokens that are moved between the device and the host at once.
STAGING_TOKENS = 256


class DeviceKeyValues(KeyValues):
    """Slots in a GPU's memory, which is allocated whole at the start, and zeroed.

    Behind the spare slot there may be others, `kept`, that no sequence uses.
    """

    def __init__(
        self, spec: ModelSpec, slots: int, capacity: int, provider: Provider, kept: int = 0
    ) -> None:
        super().__init__(spec, slots, capacity, kept)
        self._provider = provider
        self._rows = self.shape[1] * 2 * spec.layers
        """Rows of tokens in a slot: a head's keys or values in one layer."""
        self._token_bytes = spec.head_size * np.dtype(self.type).itemsize
        self._slot_bytes = self.shape[1] * capacity * self._token_bytes
        self._values = [device_zeros(self.shape, self.type, provider) for _ in self.past_names]
        heads = np.arange(self.shape[1]) * capacity * self._token_bytes
        starts = np.array([value.data_ptr() for value in self._values])
        self._row_addresses = (starts[:, None] + heads).ravel()
        self._staging_host = np.zeros((self._rows, STAGING_TOKENS * spec.head_size), self.type)
        self._staging = device_zeros(self._staging_host.shape, self.type, provider)
        self._copier = open_session(copy_graph(self._rows, self.type), provider)
        self._run_options = run_options()

    def bind(self, binding: ort.IOBinding, first: int, count: int) -> None:
        shape = (count, *self.shape[1:])
        device = self._provider.device
        names = zip(self.past_names, self.present_names, self._values, strict=True)
        for past, present, value in names:
            window = value.data_ptr() + first * self._slot_bytes
            binding.bind_input(past, *device, self.element, shape, window)
            binding.bind_output(present, *device, self.element, shape, window)

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        if start < length:
            self._copy(self._places(source, start), self._places(target, start), length - start)

    def release(self, slot: int, length: int, kept: int = 0) -> None:
        """Does nothing: the memory stays allocated."""

    def read(self, slot: int, start: int, count: int) -> NDArray[Any]:
        """A copy of `count` tokens of a slot: [2 * layers, kv_heads, count, head_size]."""
        size = self.spec.head_size
        tokens = np.empty((self._rows, count, size), self.type)
        for done in range(0, count, STAGING_TOKENS):
            part = min(STAGING_TOKENS, count - done)
            self._copy(self._places(slot, start + done), self._staging_places, part)
            with device_errors():
                staged = self._staging.numpy()
            staged = staged.reshape(self._rows, STAGING_TOKENS, size)
            tokens[:, done : done + part] = staged[:, :part]
        return tokens.reshape(len(self._values), self.shape[1], count, size)

    def write(self, slot: int, start: int, tokens: NDArray[Any], count: int) -> None:
        """Writes the first `count` tokens of what `read` returned to a slot, from `start` on."""
        size = self.spec.head_size
        rows = tokens.reshape(self._rows, -1, size)
        staged = self._staging_host.reshape(self._rows, STAGING_TOKENS, size)
        for done in range(0, count, STAGING_TOKENS):
            part = min(STAGING_TOKENS, count - done)
            staged[:, :part] = rows[:, done : done + part]
            with device_errors():
                self._staging.update_inplace(self._staging_host)
            self._copy(self._staging_places, self._places(slot, start + done), part)

    @property
    def _staging_places(self) -> list[int]:
        offsets = np.arange(self._rows) * STAGING_TOKENS * self._token_bytes
        places: list[int] = (self._staging.data_ptr() + offsets).tolist()
        return places

    def _places(self, slot: int, token: int) -> list[int]:
        """The address of a token in each row of a slot."""
        offset = slot * self._slot_bytes + token * self._token_bytes
        places: list[int] = (self._row_addresses + offset).tolist()
        return places

    def _copy(self, sources: Sequence[int], targets: Sequence[int], tokens: int) -> None:
        binding = self._copier.io_binding()
        shape = (tokens * self.spec.head_size,)
        device = self._provider.device
        for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
            binding.bind_input(f"source.{row}", *device, self.type, shape, source)
            binding.bind_output(f"target.{row}", *device, self.type, shape, target)
        run_on_device(self._copier, binding, self._run_options)


def copy_graph(rows: int, type_: type) -> bytes:
    """A serialised graph that copies `source.N` to `target.N`, each of one length.

    ONNX Runtime has no other way, from Python, to copy parts of buffers within a device.
    """
    element = helper.np_dtype_to_tensor_dtype(np.dtype(type_))

    def values(kind: str) -> list[Any]:
        names = [f"{kind}.{row}" for row in range(rows)]
        return [helper.make_tensor_value_info(name, element, ["length"]) for name in names]

    nodes = [
        helper.make_node("Identity", [f"source.{row}"], [f"target.{row}"]) for row in range(rows)
    ]
    graph = helper.make_graph(nodes, "copy", values("source"), values("target"))
    opset = helper.make_opsetid("", 21)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return bytes(model.SerializeToString())
