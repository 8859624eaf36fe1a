"""The attention of a graph: one GroupQueryAttention for each layer, with a cache of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnx import GraphProto, NodeProto, TensorProto

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.genai.config import LAYER, Decoder

OPERATOR = "GroupQueryAttention"
# Positions among its inputs and outputs.
PASTS, SEQLENS_K, TOTAL, COS, PRESENTS = slice(3, 5), 5, 6, 7, slice(1, 3)
STRANGE_INPUTS = {
    9: "position_ids",
    10: "an attention bias",
    14: "norms of queries and keys inside, which run on GPUs only",
    15: "norms of queries and keys inside, which run on GPUs only",
}
KV_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT8: "int8",
}


class Attention:
    """The nodes of attention, in the order of the layers.

    Raises:
        CorruptFileError: they do not fit the configuration.
        UnsupportedModelError: they have something that the engine does not give them.
    """

    def __init__(self, graph: GraphProto, decoder: Decoder, where: Path) -> None:
        inputs, outputs = decoder.inputs, decoder.outputs
        layers = range(decoder.num_hidden_layers)
        self.where = where
        self.pasts = _names((inputs.past_key_names, inputs.past_value_names), layers)
        self.presents = _names((outputs.present_key_names, outputs.present_value_names), layers)
        found = {tuple(node.input[PASTS]): node for node in graph.node if node.op_type == OPERATOR}
        if not found:
            raise UnsupportedModelError(f"{where}: no {OPERATOR}")
        self.nodes = [self._node_of(found, layer) for layer in layers]
        if len(found) > len(self.nodes):
            raise CorruptFileError(f"{where}: {len(found)} layers, {len(self.nodes)} stated")
        for node in self.nodes:
            self._check(node, decoder)
        self.kv_type = self._kv_type(graph)

    def _node_of(self, found: dict[tuple[str, ...], NodeProto], layer: int) -> NodeProto:
        part = slice(2 * layer, 2 * layer + 2)
        pasts, presents = self.pasts[part], self.presents[part]
        node = found.get(tuple(pasts))
        if node is None or list(node.output[PRESENTS]) != presents:
            raise CorruptFileError(
                f"{self.where}: no {OPERATOR} from {pasts[0][:100]!r} to {presents[0][:100]!r}"
            )
        return node

    def _check(self, node: NodeProto, decoder: Decoder) -> None:
        where = f"{self.where}: node {node.name[:100]!r}"
        for place, reason in STRANGE_INPUTS.items():
            if any(node.input[place : place + 1]):
                raise UnsupportedModelError(f"{where}: {reason}")
        numbers = {each.name: each.i for each in node.attribute}
        heads = {
            "num_heads": decoder.num_attention_heads,
            "kv_num_heads": decoder.num_key_value_heads,
        }
        for name, stated in heads.items():
            if numbers.get(name) != stated:
                raise CorruptFileError(f"{where}: {name} {numbers.get(name)}, {stated} stated")
        # The engine's caches of all layers are as long as the context. The window stays.
        windowed = [each for each in node.attribute if each.name == "sliding_window_cache"]
        for attribute in windowed:
            node.attribute.remove(attribute)

    def _kv_type(self, graph: GraphProto) -> str:
        types = {
            value.type.tensor_type.elem_type
            for value in [*graph.input, *graph.output]
            if value.name in {*self.pasts, *self.presents}
        }
        names = [KV_TYPES.get(type_) for type_ in types]
        if len(names) != 1 or names[0] is None:
            known = ", ".join(KV_TYPES.values())
            raise UnsupportedModelError(f"{self.where}: type of keys and values; known: {known}")
        return names[0]

    def positions(self, graph: GraphProto) -> int | None:
        """How many positions the tables of angles have; None without rotary embeddings."""
        tables = {tensor.name: tensor for tensor in graph.initializer}
        lengths = [
            tables[node.input[COS]].dims[0]
            for node in self.nodes
            if len(node.input) > COS and node.input[COS] in tables and tables[node.input[COS]].dims
        ]
        return min(lengths, default=None)


def _names(patterns: Sequence[str], layers: range) -> list[str]:
    """The names of keys and values of each layer in turn."""
    return [pattern.replace(LAYER, str(layer)) for layer in layers for pattern in patterns]
