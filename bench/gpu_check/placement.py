"""Where ONNX Runtime runs each node of a graph, told by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime as ort
from onnx import ModelProto

from bench.gpu_check.subject import Measured, Subject
from rapport.models.folder import GRAPH
from rapport.models.onnx.precision import CUDA_PRECISIONS
from rapport.service.engine.runtime.providers import CPU_PROVIDER, CUDA_PROVIDER
from rapport.service.engine.runtime.session import FATAL


def measure(subject: Subject) -> Measured:
    """Of each precision, the nodes that should run on the GPU and do not, and copies."""
    return {precision: misplaced(subject.folder(precision)) for precision in CUDA_PRECISIONS}


def misplaced(folder: Path) -> list[str]:
    """Nodes on the host that compute with more than shapes, and copies between both."""
    with TemporaryDirectory() as scratch:
        host, operators = on_the_host(folder / GRAPH, Path(scratch))
    model = onnx.load(folder / GRAPH, load_external_data=False)
    copies = {operator for operator in operators if operator.startswith("Memcpy")}
    return sorted(host - set(shape_arithmetic(model)) | copies)


def on_the_host(graph: bytes | Path, scratch: Path) -> tuple[set[str], set[str]]:
    """The nodes that do not run on the GPU, and the operators of the optimised graph."""
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.optimized_model_filepath = str(scratch / "optimised.onnx")
    entries = {
        "record_ep_graph_assignment_info": "1",
        # A protobuf message holds no more than 2 GiB.
        "optimized_model_external_initializers_file_name": "weights",
    }
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    session = ort.InferenceSession(graph, options, providers=[CUDA_PROVIDER, CPU_PROVIDER])
    if session.get_providers()[0] != CUDA_PROVIDER:
        raise RuntimeError("ONNX Runtime fell back to the CPU")
    parts = session.get_provider_graph_assignment_info()
    others = [part for part in parts if part.ep_name != CUDA_PROVIDER]
    host = {node.name for part in others for node in part.get_nodes()}
    optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)
    return host, {node.op_type for node in optimised.graph.node}


def shape_arithmetic(model: ModelProto) -> Iterator[str]:
    """The nodes that compute with nothing but shapes and constants."""
    known = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Shape" or known.issuperset(node.input):
            known.update(node.output)
            yield node.name
