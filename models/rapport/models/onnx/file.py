"""Writing an ONNX model whose weights go to disk as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from onnx.helper import np_dtype_to_tensor_dtype as element_type

OPSET = 24
ALIGNMENT = 4096  # of a page, so that the file can be mapped
INLINE = 64  # bytes; shapes and other small constants must be readable without the data file
CONTRIB = "com.microsoft"


class OnnxWriter:
    """A graph under construction; weights are written to `data` at once and not kept.

    Tensors are known by their names. An empty name is an input left out.
    """

    def __init__(self, data: BinaryIO, data_name: str) -> None:
        self.data = data
        self.data_name = data_name
        self.graph = ModelProto().graph
        self.named = 0

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        output = self.fresh(op)
        self.nodes(op, inputs, [output], **attributes)
        return output

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        node = helper.make_node(op, inputs, outputs, name=self.fresh(op), **attributes)
        self.graph.node.append(node)

    def contrib(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.node(op, *inputs, domain=CONTRIB, **attributes)

    def fresh(self, op: str) -> str:
        self.named += 1
        return f"{op}_{self.named}"

    def name_last(self, name: str) -> None:
        """Rename the output of the last node, which no other node has used yet."""
        self.graph.node[-1].output[0] = name

    def constant(self, array: NDArray[np.generic], name: str = "") -> str:
        """Add an initializer and return its name."""
        tensor = self.graph.initializer.add()
        tensor.name = name or self.fresh("constant")
        tensor.data_type = element_type(array.dtype)
        tensor.dims.extend(array.shape)
        raw = np.ascontiguousarray(array).data.cast("B") if array.size else b""
        if len(raw) <= INLINE:
            tensor.raw_data = bytes(raw)
        else:
            self.write_external(tensor, raw)
        return tensor.name

    def write_external(self, tensor: TensorProto, raw: memoryview | bytes) -> None:
        self.data.write(b"\0" * (-self.data.tell() % ALIGNMENT))
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
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        version = helper.find_min_ir_version_for(opsets[:1])
        return helper.make_model(
            self.graph, opset_imports=opsets, ir_version=version, producer_name="rapport"
        )
