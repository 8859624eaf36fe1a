"""The decoder as one ONNX graph, for prefill and for decoding.

Inputs, with B sequences of S new tokens each:
    input_ids              int64 [B, S]
    seqlens_k              int32 [B]: tokens of each sequence including the new ones, minus one
    total_sequence_length  int32: tokens of the longest sequence including the new ones
    logit_rows             int64 [R]: the indices of the B * S tokens to return logits for
    past_key_values.N.key and .value  [B, kv_heads, room, head_size] for each layer N
Outputs:
    logits                 float32 [R, vocab_size]
    present.N.key and .value  like the past; bind the same memory to write in place

Hidden states are [B * S, hidden], so that a quantised layer is one node or three (see linear.py).
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from onnx.helper import np_dtype_to_tensor_dtype as element_type

from rapport.models.gguf.reader import Architecture, GgufFile
from rapport.models.gguf.weights import Floats, Matrix, stacked
from rapport.models.onnx.embedding import FloatTable, QuantisedTable, token_table
from rapport.models.onnx.file import CONTRIB_DOMAIN, OnnxWriter, array_type
from rapport.models.onnx.linear import Linears
from rapport.models.onnx.precision import Precision
from rapport.models.progress import Progress

TokenTable = FloatTable | QuantisedTable

INPUTS = {
    "input_ids": "input_ids",
    "seqlens_k": "seqlens_k",
    "total_sequence_length": "total_sequence_length",
    "logit_rows": "logit_rows",
    "past_key": "past_key_values.{layer}.key",
    "past_value": "past_key_values.{layer}.value",
}
OUTPUTS = {
    "logits": "logits",
    "present_key": "present.{layer}.key",
    "present_value": "present.{layer}.value",
}


class DecoderGraph:
    """Builds the graph of a model; its weights go to the writer's data file."""

    def __init__(self, file: GgufFile, onnx: OnnxWriter, precision: Precision) -> None:
        self.file = file
        self.arch = file.architecture
        self.onnx = onnx
        self.element = array_type(precision.element)
        self.linears = Linears(onnx, self.element, precision.weights)
        self.float_table = precision.weights == "floats" and not precision.small_table

    def build(self, progress: Progress) -> ModelProto:
        self._add_shared_constants()
        embedding = self.file.matrix("token_embd.weight")
        table = token_table(self.linears, embedding, exact_floats=self.float_table)
        hidden = table.vectors(self.onnx.node("Reshape", "input_ids", self.flat))
        normed = self._first_norm(hidden)
        for layer in range(self.arch.layers):
            progress("building the graph", layer / self.arch.layers)
            attended = self._attention(layer, normed)
            hidden, normed = self._add_and_norm(attended, hidden, f"blk.{layer}.ffn_norm.weight")
            expanded = self._feed_forward(layer, normed)
            hidden, normed = self._add_and_norm(expanded, hidden, self._norm_after(layer))
        self._add_logits(table, self.onnx.node("Gather", normed, "logit_rows"))
        return self.onnx.model(self._inputs(), self._outputs())

    def _add_shared_constants(self) -> None:
        constant = self.onnx.constant
        cos, sin = _rotary_tables(self.arch)
        self.cos = constant(cos.astype(self.element), "cos")
        self.sin = constant(sin.astype(self.element), "sin")
        self.flat = constant(np.array([-1]), "flat")
        query_size = self.arch.heads * self.arch.head_size
        self.flat_queries = constant(np.array([-1, query_size]), "flat_queries")
        self.halves = constant(np.array([self.arch.feed_forward] * 2), "halves")
        batch_and_length = self.onnx.node("Shape", "input_ids")
        self.per_sequence = self.onnx.node("Concat", batch_and_length, self.flat, axis=0)

    def _add_logits(self, table: TokenTable, x: str) -> None:
        if "output.weight" in self.file.tensors:
            logits = self.linears.add(x, self.file.matrix("output.weight"))
        else:
            logits = table.scores(x)
        # The runtime does not remove a cast from float32 to float32; it costs a tenth of a step.
        if self.element != np.float32:
            self.onnx.node("Cast", logits, to=TensorProto.FLOAT)
        self.onnx.name_last(OUTPUTS["logits"])

    def _attention(self, layer: int, x: str) -> str:
        qkv = self.linears.add(x, self._query_key_value(layer))
        context = self.onnx.node("Reshape", self._grouped_attention(layer, qkv), self.flat_queries)
        return self.linears.add(context, self.file.matrix(f"blk.{layer}.attn_output.weight"))

    def _query_key_value(self, layer: int) -> Matrix:
        query = self.file.query_or_key(layer, "attn_q", self.arch.heads)
        key = self.file.query_or_key(layer, "attn_k", self.arch.kv_heads)
        return stacked([query, key, self.file.matrix(f"blk.{layer}.attn_v.weight")])

    def _grouped_attention(self, layer: int, qkv: str) -> str:
        """Applies rotary angles, appends to the cache and attends: [B, S, heads * head_size]."""
        context = self.onnx.fresh("context")
        past = [INPUTS[name].format(layer=layer) for name in ("past_key", "past_value")]
        present = [OUTPUTS[name].format(layer=layer) for name in ("present_key", "present_value")]
        packed = [self.onnx.node("Reshape", qkv, self.per_sequence), "", ""]
        lengths = ["seqlens_k", "total_sequence_length"]
        self.onnx.nodes(
            "GroupQueryAttention",
            [*packed, *past, *lengths, self.cos, self.sin],
            [context, *present],
            domain=CONTRIB_DOMAIN,
            num_heads=self.arch.heads,
            kv_num_heads=self.arch.kv_heads,
            do_rotary=1,
        )
        return context

    def _feed_forward(self, layer: int, x: str) -> str:
        parts = [self.file.matrix(f"blk.{layer}.{part}.weight") for part in ("ffn_gate", "ffn_up")]
        gate, up = self.onnx.fresh("gate"), self.onnx.fresh("up")
        both = self.linears.add(x, stacked(parts))
        self.onnx.nodes("Split", [both, self.halves], [gate, up], axis=-1)
        silu = self.onnx.contrib("QuickGelu", gate, alpha=1.0)
        gated = self.onnx.node("Mul", silu, up)
        return self.linears.add(gated, self.file.matrix(f"blk.{layer}.ffn_down.weight"))

    def _first_norm(self, x: str) -> str:
        weight = self._norm_weight("blk.0.attn_norm.weight")
        epsilon = self.arch.epsilon
        return self.onnx.node("SimplifiedLayerNormalization", x, weight, epsilon=epsilon, axis=-1)

    def _norm_after(self, layer: int) -> str:
        last = layer + 1 == self.arch.layers
        return "output_norm.weight" if last else f"blk.{layer + 1}.attn_norm.weight"

    def _add_and_norm(self, x: str, hidden: str, weight: str) -> tuple[str, str]:
        """The sum of `x` and `hidden`, and its norm."""
        total, normed = self.onnx.fresh("hidden"), self.onnx.fresh("normed")
        self.onnx.nodes(
            "SkipSimplifiedLayerNormalization",
            [x, hidden, self._norm_weight(weight)],
            [normed, "", "", total],
            domain=CONTRIB_DOMAIN,
            epsilon=self.arch.epsilon,
        )
        return total, normed

    def _norm_weight(self, name: str) -> str:
        return self.onnx.constant(self.file.vector(name).astype(self.element), name)

    def _inputs(self) -> list[ValueInfoProto]:
        sizes: dict[str, tuple[TensorProto.DataType, list[str]]] = {
            "input_ids": (TensorProto.INT64, ["batch", "sequence"]),
            "seqlens_k": (TensorProto.INT32, ["batch"]),
            "total_sequence_length": (TensorProto.INT32, []),
            "logit_rows": (TensorProto.INT64, ["rows"]),
        }
        plain = [helper.make_tensor_value_info(name, *size) for name, size in sizes.items()]
        return plain + self._cache("past_key", "past_value", INPUTS)

    def _outputs(self) -> list[ValueInfoProto]:
        logits = helper.make_tensor_value_info(
            "logits", TensorProto.FLOAT, ["rows", self.arch.vocab_size]
        )
        return [logits, *self._cache("present_key", "present_value", OUTPUTS)]

    def _cache(self, key: str, value: str, names: dict[str, str]) -> list[ValueInfoProto]:
        size: list[str | int] = ["batch", self.arch.kv_heads, "room", self.arch.head_size]
        return [
            helper.make_tensor_value_info(
                names[part].format(layer=layer), element_type(self.element), size
            )
            for layer in range(self.arch.layers)
            for part in (key, value)
        ]


def _rotary_tables(arch: Architecture) -> tuple[Floats, Floats]:
    """Cosines and sines [context_length, head_size / 2] of the rotary angles."""
    exponents = np.arange(0, arch.head_size, 2) / arch.head_size
    angles = np.outer(np.arange(arch.context_length), arch.rope_base**-exponents)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
