"""The attention of a layer, by GroupQueryAttention."""

from __future__ import annotations

import numpy as np

from rapport.models.decoder.architecture import Architecture
from rapport.models.decoder.model import Model
from rapport.models.decoder.rope import Rope
from rapport.models.onnx.file import CONTRIB_DOMAIN, OnnxWriter
from rapport.models.onnx.linear import Linears
from rapport.models.onnx.names import INPUTS, OUTPUTS
from rapport.models.weights.blocks import Floats
from rapport.models.weights.matrix import Projection


class Attention:
    """Adds the attention of layers to a graph, with the norms of queries and keys, if any."""

    def __init__(self, model: Model, onnx: OnnxWriter, linears: Linears, flat: str) -> None:
        self.model = model
        self.arch: Architecture = model.architecture
        self.onnx = onnx
        self.linears = linears
        self.tables: dict[Rope, tuple[str, str]] = {}
        self.sizes = [
            heads * self.arch.head_size
            for heads in (self.arch.heads, self.arch.kv_heads, self.arch.kv_heads)
        ]
        self.flat_queries = onnx.constant(np.array([-1, self.sizes[0]]), "flat_queries")
        batch_and_length = onnx.node("Shape", "input_ids")
        self.per_sequence = onnx.node("Concat", batch_and_length, flat, axis=0)

    def add(self, layer: int, x: str) -> str:
        """The output [tokens, hidden] for x [tokens, hidden]."""
        qkv = self.linears.add(x, *self._query_key_value(layer))
        if self._part(layer, "attn_q_norm.weight") in self.model.source.tensors:
            parts = self._normed(layer, qkv)
        else:
            parts = [self.onnx.node("Reshape", qkv, self.per_sequence), "", ""]
        context = self.onnx.node("Reshape", self._grouped(layer, parts), self.flat_queries)
        return self.linears.add(context, self.model.projection(self._part(layer, "attn_output")))

    def _part(self, layer: int, part: str) -> str:
        return f"blk.{layer}.{part}"

    def _query_key_value(self, layer: int) -> list[Projection]:
        packed = self._part(layer, "attn_qkv")
        if f"{packed}.weight" in self.model.source.tensors:
            return [self.model.projection(packed)]
        return [
            self.model.query_or_key(self._part(layer, "attn_q"), self.arch.heads),
            self.model.query_or_key(self._part(layer, "attn_k"), self.arch.kv_heads),
            self.model.projection(self._part(layer, "attn_v")),
        ]

    def _normed(self, layer: int, qkv: str) -> list[str]:
        """Queries, keys and values [B, S, size] apart, the first two normed."""
        names = [self.onnx.fresh(part) for part in ("query", "key", "value")]
        self.onnx.nodes("Split", [qkv, self._constant(self.sizes)], names, axis=-1)
        normed = [
            self._head_norm(self._part(layer, f"attn_{part}_norm.weight"), name)
            for part, name in zip("qk", names[:2], strict=True)
        ]
        return [self.onnx.node("Reshape", name, self.per_sequence) for name in (*normed, names[2])]

    def _head_norm(self, name: str, x: str) -> str:
        """The norm of each head, or of all heads together where there are weights for all."""
        weight = self.model.source.vector(name)
        rows = self.onnx.node("Reshape", x, self._constant([-1, len(weight)]))
        return self.onnx.node(
            "SimplifiedLayerNormalization",
            rows,
            self.onnx.constant(self._element(weight), name),
            epsilon=self.arch.epsilon,
            axis=-1,
        )

    def _grouped(self, layer: int, query_key_value: list[str]) -> str:
        """Applies rotary angles, appends to the cache and attends: [B, S, heads * head_size]."""
        context = self.onnx.fresh("context")
        past = [INPUTS[name].format(layer=layer) for name in ("past_key", "past_value")]
        present = [OUTPUTS[name].format(layer=layer) for name in ("present_key", "present_value")]
        rope = self.arch.rope_of(layer)
        angles = [] if rope is None else self._angles(rope)
        self.onnx.nodes(
            "GroupQueryAttention",
            [*query_key_value, *past, "seqlens_k", "total_sequence_length", *angles],
            [context, *present],
            domain=CONTRIB_DOMAIN,
            num_heads=self.arch.heads,
            kv_num_heads=self.arch.kv_heads,
            do_rotary=int(rope is not None),
            **self._options(layer),
        )
        return context

    def _options(self, layer: int) -> dict[str, float]:
        """The attributes that are not the operator's defaults."""
        options = {
            "local_window_size": self.arch.window_of(layer),
            "scale": self.arch.scales.attention,
            "softcap": self.arch.scales.attention_cap,
        }
        return {name: value for name, value in options.items() if value}

    def _angles(self, rope: Rope) -> tuple[str, str]:
        """The names of the tables of cosines and sines, which layers share."""
        if rope not in self.tables:
            suffix = f"_{len(self.tables)}" if self.tables else ""
            cos, sin = rope.tables(self.arch.context_length)
            self.tables[rope] = (
                self.onnx.constant(self._element(cos), f"cos{suffix}"),
                self.onnx.constant(self._element(sin), f"sin{suffix}"),
            )
        return self.tables[rope]

    def _constant(self, sizes: list[int]) -> str:
        return self.onnx.constant(np.array(sizes))

    def _element(self, values: Floats) -> np.ndarray:
        return values.astype(self.linears.element)
