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

from rapport.models.decoder.model import Model
from rapport.models.onnx.attention import Attention
from rapport.models.onnx.embedding import FloatTable, QuantisedTable, token_table
from rapport.models.onnx.experts import Experts
from rapport.models.onnx.file import CONTRIB_DOMAIN, OnnxWriter, array_type
from rapport.models.onnx.linear import Linears
from rapport.models.onnx.names import INPUTS, OUTPUTS
from rapport.models.onnx.precision import Precision
from rapport.models.progress import Progress

TokenTable = FloatTable | QuantisedTable


class DecoderGraph:
    """Builds the graph of a model; its weights go to the writer's data file."""

    def __init__(self, model: Model, onnx: OnnxWriter, precision: Precision) -> None:
        self.model = model
        self.source = model.source
        self.arch = model.architecture
        self.onnx = onnx
        self.element = array_type(precision.element)
        self.linears = Linears(
            onnx, self.element, precision.weights, quantises_floats=model.quantises_floats
        )
        self.float_table = precision.weights == "floats" and not precision.small_table

    def build(self, progress: Progress) -> ModelProto:
        flat = self.onnx.constant(np.array([-1]), "flat")
        self.experts = Experts(self.model, self.onnx, self.linears)
        self.halves = self.onnx.constant(np.array([self.arch.feed_forward] * 2), "halves")
        self.attention = Attention(self.model, self.onnx, self.linears, flat)
        embedding = self.source.matrix("token_embd.weight")
        table = token_table(self.linears, embedding, exact_floats=self.float_table)
        vectors = table.vectors(self.onnx.node("Reshape", "input_ids", flat))
        hidden = self._times(vectors, self.arch.scales.embedding)
        normed = self._norm(hidden, "blk.0.attn_norm.weight")
        for layer in range(self.arch.layers):
            progress("building the graph", layer / self.arch.layers)
            hidden, normed = self._layer(layer, hidden, normed)
        self._add_logits(table, self.onnx.node("Gather", normed, "logit_rows"))
        return self.onnx.model(self._inputs(), self._outputs())

    def _layer(self, layer: int, hidden: str, normed: str) -> tuple[str, str]:
        """The sum of `hidden` and what the layer adds to it, and the norm of that sum."""
        prefix = f"blk.{layer}."
        attended = self._after(self.attention.add(layer, normed), f"{prefix}post_attention_norm")
        hidden, normed = self._add_and_norm(attended, hidden, f"{prefix}ffn_norm.weight")
        expanded = self._after(self._feed_forward(prefix, normed), f"{prefix}post_ffw_norm")
        last = layer + 1 == self.arch.layers
        following = "output_norm.weight" if last else f"blk.{layer + 1}.attn_norm.weight"
        return self._add_and_norm(expanded, hidden, following)

    def _after(self, x: str, post_norm: str) -> str:
        """What attention or feed-forward add to the hidden states: normed and scaled, if at all."""
        return self._times(self._norm(x, f"{post_norm}.weight"), self.arch.scales.residual)

    def _feed_forward(self, prefix: str, x: str) -> str:
        if self.arch.experts:
            return self.experts.add(prefix, x)
        parts = [f"{prefix}ffn_{part}" for part in ("gate", "up")]
        present = [part for part in parts if f"{part}.weight" in self.source.tensors]
        gate, up = self.onnx.fresh("gate"), self.onnx.fresh("up")
        both = self.linears.add(x, *map(self.model.projection, present))
        self.onnx.nodes("Split", [both, self.halves], [gate, up], axis=-1)
        if self.arch.family.gelu:
            activated = self.onnx.node("Gelu", gate, approximate="tanh")
        else:
            activated = self.onnx.contrib("QuickGelu", gate, alpha=1.0)  # SiLU
        gated = self.onnx.node("Mul", activated, up)
        return self.linears.add(gated, self.model.projection(f"{prefix}ffn_down"))

    def _add_logits(self, table: TokenTable, x: str) -> None:
        if "output.weight" in self.source.tensors:
            logits = self.linears.add(x, self.model.projection("output"))
        else:
            logits = table.scores(x)
        # The runtime does not remove a cast from float32 to float32; it costs a tenth of a step.
        if self.element != np.float32:
            logits = self.onnx.node("Cast", logits, to=TensorProto.FLOAT)
        logits = self._times(logits, self.arch.scales.logits, np.float32)
        if cap := self.arch.scales.logits_cap:
            squashed = self.onnx.node("Tanh", self._times(logits, 1 / cap, np.float32))
            self._times(squashed, cap, np.float32)
        self.onnx.name_last(OUTPUTS["logits"])

    def _times(self, x: str, factor: float, element: type[np.float32] | None = None) -> str:
        if factor == 1:
            return x
        return self.onnx.node(
            "Mul", x, self.onnx.constant(np.array(factor, element or self.element))
        )

    def _norm(self, x: str, weight: str) -> str:
        """The norm of x; x itself if the model has no such norm."""
        if weight not in self.source.tensors:
            return x
        scale, epsilon = self._norm_weight(weight), self.arch.epsilon
        return self.onnx.node("SimplifiedLayerNormalization", x, scale, epsilon=epsilon, axis=-1)

    def _add_and_norm(self, x: str, hidden: str, weight: str) -> tuple[str, str]:
        """The sum of `x` and `hidden`, and its norm."""
        if weight not in self.source.tensors:
            total = self.onnx.node("Add", x, hidden)
            return total, total
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
        return self.onnx.constant(self.source.vector(name).astype(self.element), name)

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
