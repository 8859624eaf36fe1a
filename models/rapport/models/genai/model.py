"""A folder of onnxruntime-genai: its decoder, its weights and its tokenizer."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path

from onnx import TensorProto

from rapport.models.decoder.sampling import sampling_defaults
from rapport.models.errors import UnsupportedModelError
from rapport.models.genai.attention import Attention
from rapport.models.genai.config import LAYER, read_config
from rapport.models.genai.folder import SourceFolder
from rapport.models.genai.proto import Weights, read_proto
from rapport.models.genai.rewire import rewire
from rapport.models.huggingface import text
from rapport.models.onnx.names import INPUTS, OUTPUTS

# The precision of a folder, by the bits of most of its weights (0: floats) and the type of its
# keys and values.
PRECISIONS = {
    (4, "float32"): "int4",
    (8, "float32"): "int8",
    (0, "float32"): "float32",
    (4, "float16"): "int4-float16",
    (8, "float16"): "int8-float16",
    (0, "float16"): "float16",
    (4, "int8"): "int4-kv8",
    (8, "int8"): "int8-kv8",
}
# Operators on matrices of quantised weights, and the bits of those whose type has them.
QUANTISED = ("DequantizeLinear", "MatMulNBits")
DEFAULT_BITS = 4
QUANT_BITS: dict[int, int] = {TensorProto.INT8: 8, TensorProto.UINT8: 8}


class GenaiModel:
    """A model that the engine can serve, its graph changed for that. Weights are not read.

    `chat_template` replaces that of the folder.

    Raises:
        CorruptFileError: a file is missing, damaged, or contradicts another.
        UnsupportedModelError: the model has something that is not supported.
        OSError: a file cannot be read.
    """

    def __init__(self, path: Path, chat_template: str | None = None) -> None:
        folder = SourceFolder(path)
        self.path = path
        config = read_config(folder)
        self.config = config.model
        self.decoder = self.config.decoder
        self.graph_file = path / self.decoder.filename
        self.proto = read_proto(folder, self.decoder.filename)
        self.weights = Weights(folder, self.proto.graph, self.graph_file)
        self.attention = Attention(self.proto.graph, self.decoder, self.graph_file)
        self.precision = self._precision()
        limit = self.config.context_length
        rewire(self.proto, self.decoder, self.attention, limit, self.graph_file)
        self.context_length = min(limit, self.attention.positions(self.proto.graph) or limit)
        folder.check(text.FILES)
        self.text = text.FolderText(
            path, self.config.vocab_size, chat_template, self.config.end_tokens
        )
        advised = self.text.sampling_defaults.given
        self.sampling_defaults = sampling_defaults(config.sampling | advised)

    @cached_property
    def kinds(self) -> Counter[tuple[int, int]]:
        """How many matrices have so many bits, in blocks of so many weights."""
        graph = self.proto.graph
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        kinds: Counter[tuple[int, int]] = Counter()
        for node in graph.node:
            numbers = {each.name: each.i for each in node.attribute}
            bits = numbers.get("bits", DEFAULT_BITS)
            if node.op_type == "DequantizeLinear":
                bits = QUANT_BITS.get(types.get(node.input[0], 0), DEFAULT_BITS)
            if node.op_type in QUANTISED:
                kinds[bits, numbers.get("block_size", 0)] += 1
        return kinds

    def _precision(self) -> str:
        bits: Counter[int] = Counter()
        for (width, _), count in self.kinds.items():
            bits[width] += count
        usual = bits.most_common(1)[0][0] if bits else 0
        kv_type = self.attention.kv_type
        if (usual, kv_type) not in PRECISIONS:
            raise UnsupportedModelError(
                f"{self.graph_file}: weights of {usual or 'no'} bits beside keys and values in "
                f"{kv_type}"
            )
        return PRECISIONS[usual, kv_type]

    @property
    def inputs(self) -> dict[str, str]:
        """The graph's inputs, as `model.json` names them."""
        names = self.decoder.inputs
        return INPUTS | {
            "input_ids": names.input_ids,
            "past_key": _by_layer(names.past_key_names),
            "past_value": _by_layer(names.past_value_names),
        }

    @property
    def outputs(self) -> dict[str, str]:
        """The graph's outputs, likewise."""
        names = self.decoder.outputs
        return OUTPUTS | {
            "logits": names.logits,
            "present_key": _by_layer(names.present_key_names),
            "present_value": _by_layer(names.present_value_names),
        }


def _by_layer(name: str) -> str:
    return name.replace(LAYER, "{layer}")
