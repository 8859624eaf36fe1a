"""Where nodes run, told by ONNX Runtime's CUDA provider over a stub of CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto

from rapport.models.folder import GRAPH, Origin
from rapport.models.folder_writer import write_folder
from rapport.models.onnx.precision import CUDA_PRECISIONS
from rapport.models.progress import silent
from rapport.service.engine.sampling.candidate_graph import candidate_graph, row_graph

pytestmark = pytest.mark.cuda_stub

CUDA = "CUDAExecutionProvider"
FILES = [
    {},
    {"kind": "Q4_0", "output": "Q8_0"},
    {"kind": "Q8_0", "embedding": "F16"},
    {"kind": "F16", "embedding": "F32"},
    {"kind": "F32", "embedding": "Q4_1"},
    {"value_kind": "Q8_0", "output": "Q4_1"},
]
VOCABULARIES = (260, 49_152, 151_936, 262_144)


def on_the_host(graph: bytes | Path, scratch: Path) -> tuple[set[str], set[str]]:
    """The nodes that do not run on the GPU, and the operators of the optimised graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(scratch / "optimised.onnx")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(graph, options, providers=[CUDA, "CPUExecutionProvider"])
    assert session.get_providers()[0] == CUDA
    parts = session.get_provider_graph_assignment_info()
    host = {node.name for part in parts if part.ep_name != CUDA for node in part.get_nodes()}
    optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)
    return host, {node.op_type for node in optimised.graph.node}


def shape_arithmetic(model: ModelProto) -> Iterator[str]:
    """The nodes that compute with nothing but shapes and constants."""
    known = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Shape" or known.issuperset(node.input):
            known.update(node.output)
            yield node.name


@pytest.mark.parametrize("file", FILES, ids=str)
@pytest.mark.parametrize("precision", CUDA_PRECISIONS)
def test_every_node_of_a_model_runs_on_the_gpu(
    tiny_gguf: Callable[..., Path],
    cache: Path,
    tmp_path: Path,
    precision: str,
    file: dict[str, str],
) -> None:
    """But arithmetic with shapes, whose results are wanted on the host; nothing is copied there."""
    folder = cache / "models" / "tiny" / precision
    write_folder(Origin("tiny", "tests", tiny_gguf(**file), {}), precision, folder, silent)
    host, operators = on_the_host(folder / GRAPH, tmp_path)
    model = onnx.load(folder / GRAPH, load_external_data=False)
    assert host <= set(shape_arithmetic(model))
    assert not {operator for operator in operators if operator.startswith("Memcpy")}


@pytest.mark.parametrize("tokens", VOCABULARIES)
@pytest.mark.parametrize(
    "graph_of", [candidate_graph, partial(candidate_graph, masked=True), row_graph]
)
def test_every_node_of_a_graph_for_sampling_runs_on_the_gpu(
    tmp_path: Path, graph_of: Callable[[int], bytes], tokens: int
) -> None:
    host, operators = on_the_host(graph_of(tokens), tmp_path)
    assert not host
    assert not {operator for operator in operators if operator.startswith("Memcpy")}


def test_attention_in_float32_would_not(
    tiny_gguf: Callable[..., Path], cache: Path, tmp_path: Path
) -> None:
    """So these tests tell what they are to tell."""
    folder = cache / "models" / "tiny" / "float32"
    write_folder(Origin("tiny", "tests", tiny_gguf(), {}), "float32", folder, silent)
    host, operators = on_the_host(folder / GRAPH, tmp_path)
    assert any(name.startswith("GroupQueryAttention") for name in host)
    assert "MemcpyToHost" in operators
