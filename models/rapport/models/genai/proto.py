"""Reads the graph of a model, and checks that it is one that can be served."""

from __future__ import annotations

import math
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.genai.folder import SourceFolder
from rapport.models.genai.operators import OPERATORS
from rapport.models.genai.wire import MalformedMessageError, has_more_fields

# Weights are in a file of their own. Only tables of LongRoPE are in the graph: 50 MiB for 131,072
# positions.
MAX_GRAPH_BYTES = 64 * 2**20
MAX_FIELDS = 150_000  # a layer has some 1,000, and the largest models have 126 layers
ONNX_DOMAINS = ("", "ai.onnx")
# Inputs by which graphs show what they are.
STRANGE_INPUTS = {
    "position_ids": "rotary embeddings outside of GroupQueryAttention",
    "inputs_embeds": "a decoder without its embedding",
    "block_table": "paged attention, which runs on GPUs only",
    "encoder_hidden_states": "a decoder with an encoder",
}
# Those of the engine and of what changes the graph; other nodes have at least one.
MIN_INPUTS = {"Constant": 0, "GroupQueryAttention": 7, "Reshape": 2}


def read_proto(folder: SourceFolder, name: str) -> ModelProto:
    """The model in a file, without its weights.

    Raises:
        CorruptFileError: the file is missing or damaged, or weights are not where it says.
        UnsupportedModelError: it has something that is not supported.
        OSError: it cannot be read.
    """
    file, where = folder.file(name), folder.path / name
    if (size := file.stat().st_size) > MAX_GRAPH_BYTES:
        raise UnsupportedModelError(
            f"{where} has {size:,} bytes, {MAX_GRAPH_BYTES:,} at most: weights must be beside it"
        )
    data = file.read_bytes()
    try:
        if has_more_fields(data, ModelProto, MAX_FIELDS):
            raise UnsupportedModelError(f"{where}: more than {MAX_FIELDS:,} fields")
        model = ModelProto.FromString(data)
    except (DecodeError, MalformedMessageError) as error:
        raise CorruptFileError(f"{where}: not an ONNX model: {error}") from error
    if not model.graph.node:
        raise CorruptFileError(f"{where}: not an ONNX model: no nodes")
    if model.functions:
        raise UnsupportedModelError(f"{where}: function {model.functions[0].name}")
    if model.graph.sparse_initializer:
        raise UnsupportedModelError(f"{where}: a sparse weight")
    for value in model.graph.input:
        if reason := STRANGE_INPUTS.get(value.name):
            raise UnsupportedModelError(f"{where}: input {value.name}: {reason}")
    for node in model.graph.node:
        _check_operator(node, where)
    _check_order(model.graph, where)
    return model


def _check_operator(node: NodeProto, where: Path) -> None:
    domain = "" if node.domain in ONNX_DOMAINS else node.domain
    if node.op_type not in OPERATORS.get(domain, ()):
        of = f" of {node.domain}" if domain else ""
        raise UnsupportedModelError(
            f"{where}: node {node.name[:100]!r}: operator {node.op_type[:100]!r}{of}"
        )
    wanted = MIN_INPUTS.get(node.op_type, 1)
    if not node.output or len(node.input) < wanted:
        raise CorruptFileError(
            f"{where}: node {node.name[:100]!r}: {node.op_type} has no output, or fewer inputs "
            f"than {wanted}"
        )
    for attribute in node.attribute:
        _check_attribute(attribute, node, where)


def _check_attribute(attribute: AttributeProto, node: NodeProto, where: Path) -> None:
    """Checks that it has no weights that are elsewhere, and no graph but constants to choose."""
    for tensor in (attribute.t, *attribute.tensors):
        if tensor.data_location == TensorProto.EXTERNAL:
            raise UnsupportedModelError(
                f"{where}: node {node.name[:100]!r}: a constant in another file"
            )
    graphs = [attribute.g] if attribute.HasField("g") else []
    for graph in (*graphs, *attribute.graphs):
        others = [each for each in graph.node if each.op_type != "Constant"]
        if node.op_type != "If" or others or graph.initializer or graph.sparse_initializer:
            raise UnsupportedModelError(f"{where}: node {node.name[:100]!r}: a graph")
        for constant in graph.node:
            _check_operator(constant, where)


def _check_order(graph: GraphProto, where: Path) -> None:
    """Checks that each node takes what is there before it, and gives what is not."""
    known = {"", *(value.name for value in graph.input)}
    known.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        if not known.issuperset(node.input):
            name = next(each for each in node.input if each not in known)
            raise CorruptFileError(
                f"{where}: node {node.name[:100]!r} takes {name[:100]!r}, which is not before it"
            )
        if given := known.intersection(node.output) - {""}:
            raise CorruptFileError(
                f"{where}: node {node.name[:100]!r} gives {min(given)[:100]!r}, which is there"
            )
        known.update(node.output)


class Weights:
    """The file beside a graph in which its weights are.

    Checks that all are in one file of the folder, and that it has as many bytes as they need.

    Raises:
        CorruptFileError: a weight is elsewhere, or has other bytes than its shape says.
        UnsupportedModelError: they are in several files.
    """

    def __init__(self, folder: SourceFolder, graph: GraphProto, where: Path) -> None:
        self.where = where
        self.path: Path | None = None
        self.location = ""
        self.size = 0
        for tensor in graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                self._check(folder, tensor)

    def _check(self, folder: SourceFolder, tensor: TensorProto) -> None:
        place = {entry.key: entry.value for entry in tensor.external_data}
        location = place.get("location", "")
        if self.path is None:
            self.path, self.location = folder.file(location), location
            self.size = self.path.stat().st_size
        elif location != self.location:
            raise UnsupportedModelError(
                f"{self.where}: weights in {self.location} and {location[:100]!r}: one file only"
            )
        needed = byte_size(tensor)
        offset, length = (
            _number(place.get(key, default))
            for key, default in (("offset", "0"), ("length", str(needed)))
        )
        if needed is None or offset is None or length != needed or offset + needed > self.size:
            raise CorruptFileError(
                f"{self.where}: weight {tensor.name[:100]!r}: {needed} bytes from {offset} on, "
                f"{length} stated, are not in the {self.size:,} of {location}"
            )


def byte_size(tensor: TensorProto) -> int | None:
    """The bytes that a tensor takes by its shape and type; None if they make no sense."""
    try:
        item = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError):
        return None
    if any(size < 0 for size in tensor.dims):
        return None
    bits = 4 if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4) else 8 * item.itemsize
    return -(-math.prod(tensor.dims) * bits // 8)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None  # noqa: PLR2004
