"""Graphs for GPUs compute what the float32 graph computes, but for rounding.

Those with kernels for it run on the CPU as they are. Each runs in float32 form too: the same nodes
and weights, with floats of 32 bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from rapport.models.folder import GRAPH, Origin
from rapport.models.folder_writer import write_folder
from rapport.models.onnx.precision import CUDA_PRECISIONS
from rapport.models.progress import silent
from tests.models.conftest import Decoder

PROMPT = [1, 60, 70, 80, 90, 100, 2, 7, 7, 7, 200, 31]
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
FILES = [
    {},
    {"kind": "Q4_0", "output": "Q8_0"},
    {"kind": "Q8_0", "embedding": "F16"},
    {"value_kind": "Q8_0", "output": "Q4_1"},
]
# Rounded weights and activations; 8-bit weights come from others of 4 bits.
TOLERANCES = {"float16": 0.002, "bfloat16": 0.02, "int4-float16": 0.002, "int8-float16": 0.02}


def float32_form(model: ModelProto) -> ModelProto:
    """The graph with every float of 16 bits in 32."""
    for tensor in model.graph.initializer:
        if tensor.data_type in HALVES:
            floats = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(floats, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in HALVES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i in HALVES:
                attribute.i = TensorProto.FLOAT
    return model


@pytest.fixture
def folder_of(tiny_gguf: Callable[..., Path], cache: Path) -> Callable[..., Path]:
    """Write a tiny model in a precision."""

    def write(precision: str, **departures: str) -> Path:
        folder = cache / "models" / "tiny" / precision
        origin = Origin("tiny", "tests", tiny_gguf(**departures), {})
        write_folder(origin, precision, folder, silent)
        return folder

    return write


def logits_of(folder: Path) -> np.ndarray:
    return Decoder(folder, room=64).run([PROMPT], [0], rows=range(len(PROMPT)))


@pytest.mark.parametrize("file", FILES, ids=str)
@pytest.mark.parametrize("precision", CUDA_PRECISIONS)
def test_the_arithmetic_is_that_of_float32(
    folder_of: Callable[..., Path], precision: str, file: dict[str, str]
) -> None:
    """Whatever kinds of weights a file has. The CPU has no kernels for bfloat16."""
    exact = logits_of(folder_of("float32", **file))
    folder = folder_of(precision, **file)
    if precision != "bfloat16":
        np.testing.assert_allclose(logits_of(folder), exact, atol=TOLERANCES[precision])
    onnx.save(float32_form(onnx.load(folder / GRAPH)), folder / GRAPH)
    spec = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(spec | {"kv_type": "float32"}))
    np.testing.assert_allclose(logits_of(folder), exact, atol=TOLERANCES[precision])


@pytest.mark.parametrize("precision", CUDA_PRECISIONS)
def test_keys_and_values_have_the_type_of_the_activations(
    folder_of: Callable[..., Path], precision: str
) -> None:
    """Without it, attention has no kernel on a GPU."""
    folder = folder_of(precision)
    element = "bfloat16" if precision == "bfloat16" else "float16"
    assert json.loads((folder / "model.json").read_text())["kv_type"] == element
    graph = onnx.load(folder / GRAPH, load_external_data=False).graph
    caches = [value for value in graph.input if value.name.startswith("past_key_values")]
    types = {TensorProto.DataType.Name(value.type.tensor_type.elem_type) for value in caches}
    assert types == {element.upper()}
