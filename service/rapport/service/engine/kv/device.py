"""The keys and values of attention in a GPU's memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import onnxruntime as ort
from onnx import helper

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.host import KeyValues


class DeviceKeyValues(KeyValues):
    """Slots in a GPU's memory, which is allocated whole at the start."""

    def __init__(self, spec: ModelSpec, slots: int) -> None:
        super().__init__(spec, slots)
        self._values = [
            ort.OrtValue.ortvalue_from_shape_and_type(self.shape, self.type, "cuda", 0)
            for _ in self.past_names
        ]

    def bind(self, binding: ort.IOBinding, first: int, count: int) -> None:
        shape = (count, *self.shape[1:])
        names = zip(self.past_names, self.present_names, self._values, strict=True)
        for past, present, value in names:
            window = value.data_ptr() + first * self._slot_bytes
            binding.bind_input(past, "cuda", 0, self.type, shape, window)
            binding.bind_output(present, "cuda", 0, self.type, shape, window)

    def copy(self, source: int, target: int, length: int) -> None:
        del length  # a whole slot is copied: it is contiguous, and fast to copy on the device
        binding = self._copier.io_binding()
        shape = self.shape[1:]
        for past, present, value in zip(
            self.past_names, self.present_names, self._values, strict=True
        ):
            source_ptr = value.data_ptr() + source * self._slot_bytes
            target_ptr = value.data_ptr() + target * self._slot_bytes
            binding.bind_input(past, "cuda", 0, self.type, shape, source_ptr)
            binding.bind_output(present, "cuda", 0, self.type, shape, target_ptr)
        self._copier.run_with_iobinding(binding)

    def release(self, slot: int, length: int, kept: int = 0) -> None:
        """Does nothing: the memory stays allocated."""

    @property
    def _slot_bytes(self) -> int:
        return int(np.prod(self.shape[1:])) * np.dtype(self.type).itemsize

    @cached_property
    def _copier(self) -> ort.InferenceSession:
        graph = copy_graph(self.past_names, self.present_names, self.type, self.shape[1:])
        return ort.InferenceSession(graph, providers=["CUDAExecutionProvider"])


def copy_graph(
    sources: Sequence[str], targets: Sequence[str], type_: type, shape: Sequence[int]
) -> bytes:
    """A serialised graph that copies each source to its target.

    ONNX Runtime has no other way, from Python, to copy parts of buffers within a device.
    """
    element = helper.np_dtype_to_tensor_dtype(np.dtype(type_))
    graph = helper.make_graph(
        [helper.make_node("Identity", [a], [b]) for a, b in zip(sources, targets, strict=True)],
        "copy",
        [helper.make_tensor_value_info(name, element, shape) for name in sources],
        [helper.make_tensor_value_info(name, element, shape) for name in targets],
    )
    opset = helper.make_opsetid("", 21)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return bytes(model.SerializeToString())
