"""Decoders in float64, written after transformers' own, to compare the graph with.

Weights are read by the gguf package alone. The rows of queries and keys that llama.cpp interleaves
are rotated as it does, in neighboring pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

INTERLEAVED = {"llama", "granite", "smollm3"}
EXPERT_PARTS = ("gate", "up", "down")
GELU = {"gemma2", "gemma3"}
# Which layers have the file's sliding window.
HAS_WINDOW: dict[str, Callable[[int], bool]] = {
    "gemma2": lambda layer: layer % 2 == 0,
    "gemma3": lambda layer: (layer + 1) % 6 != 0,
    "olmo2": lambda layer: (layer + 1) % 4 != 0,
}


class Reference:
    """The model in a GGUF file."""

    def __init__(self, gguf: Path) -> None:
        reader = GGUFReader(gguf)
        self.keys = {name: field.contents() for name, field in reader.fields.items()}
        self.tensors = {
            tensor.name: dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
            for tensor in reader.tensors
        }
        self.name = self.said("general", "architecture")
        self.heads, self.kv_heads = (
            self.of("attention.head_count"),
            self.of("attention.head_count_kv"),
        )
        self.head_size = self.of("attention.key_length", self.of("embedding_length") // self.heads)
        self.layers = self.of("block_count")

    def said(self, prefix: str, key: str, default: Any = None) -> Any:
        return self.keys.get(f"{prefix}.{key}", default)

    def of(self, key: str, default: Any = None) -> Any:
        return self.said(self.name, key, default)

    def logits(self, ids: list[int]) -> np.ndarray:
        """The logits of every token of a prompt [tokens, vocab_size]."""
        scale = math.sqrt(self.of("embedding_length")) if self.name in GELU else 1
        x = self.tensors["token_embd.weight"][ids] * self.of("embedding_scale", scale)
        residual = self.of("residual_scale", 1)
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            attended = self.attention(self.norm(x, f"{prefix}attn_norm"), layer)
            x = x + residual * self.norm(attended, f"{prefix}post_attention_norm")
            expanded = self.feed_forward(self.norm(x, f"{prefix}ffn_norm"), prefix)
            x = x + residual * self.norm(expanded, f"{prefix}post_ffw_norm")
        head = self.tensors.get("output.weight", self.tensors["token_embd.weight"])
        logits = self.norm(x, "output_norm") @ head.T / self.of("logit_scale", 1)
        return capped(logits, self.of("final_logit_softcapping"))

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        weight = self.tensors.get(f"{name}.weight")
        if weight is None:
            return x
        epsilon = self.of("attention.layer_norm_rms_epsilon")
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0)

    def query_key_value(self, x: np.ndarray, prefix: str) -> list[np.ndarray]:
        """Each [tokens, heads, head_size], normed where the model does."""
        if f"{prefix}attn_qkv.weight" in self.tensors:
            sizes = np.array([self.heads, self.kv_heads]) * self.head_size
            parts = np.split(self.linear(x, f"{prefix}attn_qkv"), sizes.cumsum(), axis=-1)
        else:
            parts = [self.linear(x, f"{prefix}attn_{part}") for part in "qkv"]
        apart = [part.reshape(len(x), -1, self.head_size) for part in parts]
        for place, part in enumerate("qk"):
            name = f"{prefix}attn_{part}_norm"
            of_all = self.tensors.get(f"{name}.weight", np.zeros(0)).size > self.head_size
            normed = self.norm(parts[place] if of_all else apart[place], name)
            apart[place] = normed.reshape(apart[place].shape)
        return apart

    def attention(self, x: np.ndarray, layer: int) -> np.ndarray:
        prefix, count = f"blk.{layer}.", len(x)
        q, k, v = self.query_key_value(x, prefix)
        if self.name != "smollm3" or (layer + 1) % 4:
            q, k = self.rotated(q, layer), self.rotated(k, layer)
        groups = self.heads // self.kv_heads
        scale = self.of("attention.scale", self.head_size**-0.5)
        scores = np.einsum("qhd,khd->hqk", q, k.repeat(groups, 1)) * scale
        scores = capped(scores, self.of("attn_logit_softcapping"))
        distance = np.arange(count)[:, None] - np.arange(count)
        seen = (distance >= 0) & (distance < (self.window(layer) or count))
        scores = np.where(seen, np.exp(scores - scores.max(-1, keepdims=True)), 0)
        shares = scores / scores.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, v.repeat(groups, 1))
        return self.linear(mixed.reshape(count, -1), f"{prefix}attn_output")

    def window(self, layer: int) -> int:
        has = HAS_WINDOW.get(self.name, lambda _: True)(layer)
        return self.of("attention.sliding_window", 0) if has else 0

    def rotated(self, x: np.ndarray, layer: int) -> np.ndarray:
        """The first dimensions of each head rotated by the position, the others as they are."""
        frequencies, magnitude = self.frequencies(layer)
        turns = np.exp(1j * np.arange(len(x))[:, None] * frequencies)[:, None] * magnitude
        size = 2 * len(frequencies)
        if self.name in INTERLEAVED:
            pairs = (x[..., 0:size:2] + 1j * x[..., 1:size:2]) * turns
            turned = np.stack([pairs.real, pairs.imag], -1).reshape(*x.shape[:-1], size)
        else:
            pairs = (x[..., : size // 2] + 1j * x[..., size // 2 : size]) * turns
            turned = np.concatenate([pairs.real, pairs.imag], -1)
        return np.concatenate([turned, x[..., size:]], -1)

    def frequencies(self, layer: int) -> tuple[np.ndarray, float]:
        size = self.of("rope.dimension_count", self.head_size)
        local = self.window(layer) and self.name in {"gemma3", "olmo2"}
        base = 10000.0 if local and self.name == "gemma3" else self.of("rope.freq_base")
        plain = base ** (-np.arange(0, size, 2) / size)
        if local:
            return plain, 1
        return self.scaled(plain, base)

    def scaled(self, plain: np.ndarray, base: float) -> tuple[np.ndarray, float]:
        kind, factor = self.of("rope.scaling.type"), self.of("rope.scaling.factor", 1)
        original = self.of("rope.scaling.original_context_length", 0)
        if kind == "linear":
            return plain / factor, 1
        if kind == "yarn":
            return yarn(plain, base, factor, original), 0.1 * math.log(factor) + 1
        if "rope_freqs.weight" in self.tensors:
            return plain / self.tensors["rope_freqs.weight"], 1
        if "rope_factors_long.weight" in self.tensors:
            which = "long" if self.of("context_length") > original else "short"
            factors = self.tensors[f"rope_factors_{which}.weight"]
            return plain / factors, self.of("rope.scaling.attn_factor", 1)
        return plain, 1

    def feed_forward(self, x: np.ndarray, prefix: str) -> np.ndarray:
        if f"{prefix}ffn_gate_inp.weight" in self.tensors:
            return self.mixture(x, prefix)
        if f"{prefix}ffn_gate.weight" in self.tensors:
            gate, up = (self.linear(x, f"{prefix}ffn_{part}") for part in ("gate", "up"))
        else:
            gate, up = np.split(self.linear(x, f"{prefix}ffn_up"), 2, axis=-1)
        if self.name in GELU:
            inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
            activated = gate * (1 + np.tanh(inner)) / 2
        else:
            activated = gate / (1 + np.exp(-gate))
        return self.linear(activated * up, f"{prefix}ffn_down")

    def mixture(self, x: np.ndarray, prefix: str) -> np.ndarray:
        """The best experts of each token, by the softmax of their scores."""
        matrices = [self.tensors[f"{prefix}ffn_{part}_exps.weight"] for part in EXPERT_PARTS]
        scores = self.linear(x, f"{prefix}ffn_gate_inp")
        rows = []
        for row, row_scores in zip(x, scores, strict=True):
            best = np.argsort(-row_scores)[: self.of("expert_used_count")]
            shares = np.exp(row_scores[best] - row_scores[best].max())
            gate, up, down = (matrix[best] for matrix in matrices)
            expanded = gate @ row / (1 + np.exp(-(gate @ row))) * (up @ row)
            rows.append(np.einsum("e,ehf,ef->h", shares / shares.sum(), down, expanded))
        return np.array(rows)


def capped(x: np.ndarray, cap: float | None) -> np.ndarray:
    return cap * np.tanh(x / cap) if cap else x


def yarn(plain: np.ndarray, base: float, factor: float, original: int) -> np.ndarray:
    """After `_compute_yarn_parameters` of transformers, with its default betas of 32 and 1."""
    size = 2 * len(plain)

    def correction(rotations: float) -> float:
        return size * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(correction(32)), 0), min(math.ceil(correction(1)), size - 1)
    ramp = np.clip((np.arange(len(plain)) - low) / (high - low or 0.001), 0, 1)
    return plain / factor * ramp + plain * (1 - ramp)
