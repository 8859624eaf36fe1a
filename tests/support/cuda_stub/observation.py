"""What a session is given on the device, over the stub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from tests.support.cuda_stub import stub


def return_inputs(model: onnx.ModelProto, inputs: Mapping[str, int]) -> None:
    """Has a graph return copies of inputs, by their types, which are made when it runs."""
    for name, type_ in inputs.items():
        model.graph.node.append(helper.make_node("Identity", [name], [f"seen.{name}"]))
        model.graph.output.append(helper.make_tensor_value_info(f"seen.{name}", type_, None))


class ObservedSession:
    """A session that keeps what its graph, which returns these inputs, was given last."""

    def __init__(self, session: ort.InferenceSession, inputs: Mapping[str, int]) -> None:
        self._session = session
        self._inputs = inputs
        self._observed: list[ort.IOBinding] = []
        self.seen: dict[str, NDArray[Any]] = {}

    def get_outputs(self) -> list[ort.NodeArg]:
        return self._session.get_outputs()

    def io_binding(self) -> ort.IOBinding:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: ort.IOBinding, options: ort.RunOptions) -> None:
        if binding not in self._observed:
            self._observed.append(binding)
            for name in self._inputs:
                binding.bind_output(f"seen.{name}", "cuda", 0)
        self._session.run_with_iobinding(binding, options)
        outputs = binding.get_outputs()[-len(self._inputs) :]
        self.seen = {
            name: stub.read(
                value.data_ptr(), tuple(value.shape()), helper.tensor_dtype_to_np_dtype(type_)
            )
            for (name, type_), value in zip(self._inputs.items(), outputs, strict=True)
        }
