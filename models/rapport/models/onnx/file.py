"""Writes an ONNX model. Weights go to disk one by one, so they need not fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from onnx.helper import np_dtype_to_tensor_dtype as element_type

from rapport.models.onnx.precision import Element

OPSET = 24
ALIGNMENT_BYTES = 4096  # a page, so that the file can be mapped
# Shapes and other small constants must be readable without the data file.
MAX_INLINE_BYTES = 64
CONTRIB_DOMAIN = "com.microsoft"


def array_type(element: Element) -> np.dtype[Any]:
    """The type of an element in arrays. NumPy has none for bfloat16, but the package onnx has."""
    onnx_type = {
        "float32": TensorProto.FLOAT,
        "float16": TensorProto.FLOAT16,
        "bfloat16": TensorProto.BFLOAT16,
    }[element]
    return helper.tensor_dtype_to_np_dtype(onnx_type)


class OnnxWriter:
    """A graph under construction. Weights are written to `data` at once and not kept in memory.

    Tensors are identified by name. An empty name stands for an optional input that is left out.
    """

    def __init__(self, data: BinaryIO, data_name: str) -> None:
        self.data = data
        self.data_name = data_name
        self.graph = ModelProto().graph
        self.named = 0

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        output = self.fresh(op)
        self.nodes(op, inputs, [output], **attributes)
        return output

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        node = helper.make_node(op, inputs, outputs, name=self.fresh(op), **attributes)
        self.graph.node.append(node)

    def contrib(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.node(op, *inputs, domain=CONTRIB_DOMAIN, **attributes)

    def fresh(self, op: str) -> str:
        self.named += 1
        return f"{op}_{self.named}"

    def name_last(self, name: str) -> None:
        """Renames the output of the last node, which no other node may use yet."""
        self.graph.node[-1].output[0] = name

    def constant(self, array: NDArray[np.generic], name: str = "") -> str:
        """Adds an initializer and returns its name."""
        tensor = self.graph.initializer.add()
        tensor.name = name or self.fresh("constant")
        tensor.data_type = element_type(array.dtype)
        tensor.dims.extend(array.shape)
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        if len(raw) <= MAX_INLINE_BYTES:
            tensor.raw_data = bytes(raw)
        else:
            self._write_external(tensor, raw)
        return tensor.name

    def _write_external(self, tensor: TensorProto, raw: memoryview | bytes) -> None:
        self.data.write(b"\0" * (-self.data.tell() % ALIGNMENT_BYTES))
        place = {"location": self.data_name, "offset": self.data.tell(), "length": len(raw)}
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.data.write(raw)

    def model(
        self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> ModelProto:
        """The finished model."""
        self.graph.name = "decoder"
        self.graph.input.extend(inputs)
        self.graph.output.extend(outputs)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB_DOMAIN, 1)]
        version = helper.find_min_ir_version_for(opsets[:1])
        return helper.make_model(
            self.graph, opset_imports=opsets, ir_version=version, producer_name="rapport"
        )
