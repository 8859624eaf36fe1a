"""Writes tiny GGUF files of every architecture, with random weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from tokenizers.pre_tokenizers import ByteLevel

HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 64, 4, 2, 96, 128
HEAD = HIDDEN // HEADS
EXPERTS, ACTIVE_EXPERTS = 8, 2
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
# As many layers as the architecture's pattern needs to have one of each kind.
LAYERS = {"gemma3": 6, "smollm3": 4}
WINDOW = 8
# What a file of an architecture says besides its sizes.
KEYS: Mapping[str, Mapping[str, Any]] = {
    "phi3": {"attention.sliding_window": WINDOW},
    "gemma2": {
        "attention.sliding_window": WINDOW,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3": {"attention.sliding_window": WINDOW, "rope.freq_base": 1000000.0},
    "qwen3moe": {
        "expert_count": EXPERTS,
        "expert_used_count": ACTIVE_EXPERTS,
        "expert_feed_forward_length": FEED_FORWARD,
    },
    "granite": {
        "attention.scale": 0.1,
        "embedding_scale": 3.0,
        "residual_scale": 0.4,
        "logit_scale": 5.0,
    },
}
Shapes = Mapping[str, tuple[int, ...]]
MATRICES: Shapes = {
    "attn_q.weight": (HIDDEN, HIDDEN),
    "attn_k.weight": (KV_HEADS * HEAD, HIDDEN),
    "attn_v.weight": (KV_HEADS * HEAD, HIDDEN),
    "attn_output.weight": (HIDDEN, HIDDEN),
    "ffn_gate.weight": (FEED_FORWARD, HIDDEN),
    "ffn_up.weight": (FEED_FORWARD, HIDDEN),
    "ffn_down.weight": (HIDDEN, FEED_FORWARD),
}
MIXTURE: Shapes = {
    **{name: shape for name, shape in MATRICES.items() if name.startswith("attn")},
    "ffn_gate_inp.weight": (EXPERTS, HIDDEN),
    "ffn_gate_exps.weight": (EXPERTS, FEED_FORWARD, HIDDEN),
    "ffn_up_exps.weight": (EXPERTS, FEED_FORWARD, HIDDEN),
    "ffn_down_exps.weight": (EXPERTS, HIDDEN, FEED_FORWARD),
}
FLOATS = {"ffn_gate_inp.weight"}
NORMS: Shapes = {"attn_norm.weight": (HIDDEN,), "ffn_norm.weight": (HIDDEN,)}
POST_NORMS: Shapes = {"post_attention_norm.weight": (HIDDEN,), "post_ffw_norm.weight": (HIDDEN,)}
HEAD_NORMS: Shapes = {"attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,)}
BIASES: Shapes = {name.replace("weight", "bias"): MATRICES[name][:1] for name in list(MATRICES)[:3]}
PACKED: Shapes = {
    "attn_qkv.weight": ((HEADS + 2 * KV_HEADS) * HEAD, HIDDEN),
    "attn_output.weight": (HIDDEN, HIDDEN),
    "ffn_up.weight": (2 * FEED_FORWARD, HIDDEN),
    "ffn_down.weight": (HIDDEN, FEED_FORWARD),
}
WHOLE_NORMS: Shapes = {"attn_q_norm.weight": (HIDDEN,), "attn_k_norm.weight": (KV_HEADS * HEAD,)}
PARTS: Mapping[str, Shapes] = {
    "llama": {**NORMS, **MATRICES},
    "qwen2": {**NORMS, **MATRICES, **BIASES},
    "qwen3": {**NORMS, **MATRICES, **HEAD_NORMS},
    "qwen3moe": {**NORMS, **MIXTURE, **HEAD_NORMS},
    "phi3": {**NORMS, **PACKED},
    "gemma2": {**NORMS, **MATRICES, **POST_NORMS},
    "gemma3": {**NORMS, **MATRICES, **POST_NORMS, **HEAD_NORMS},
    "granite": {**NORMS, **MATRICES},
    "smollm3": {**NORMS, **MATRICES},
    "olmo2": {**MATRICES, **POST_NORMS, **WHOLE_NORMS},
}


@dataclass(frozen=True)
class Tiny:
    """How a tiny GGUF file departs from the usual one.

    `keys` are of the architecture, or begin with "general."; `extra` are tensors with their
    shapes. With `sentence_piece` the vocabulary is of that kind.
    """

    kind: str = "Q4_1"
    embedding: str = "Q8_0"
    output: str | None = None
    value_kind: str | None = None
    architecture: str = "llama"
    pre: str = "smollm"
    extra_tensor: str | None = None
    extra: tuple[tuple[str, tuple[int, ...]], ...] = ()
    left_out: tuple[str, ...] = ()
    keys: tuple[tuple[str, Any], ...] = ()
    sentence_piece: bool = False
    context: int = CONTEXT
    template: str | Sequence[Mapping[str, str]] | None = TEMPLATE


def write_tiny(path: Path, tiny: Tiny) -> Path:
    """Writes a GGUF file with random weights, the same ones every time."""
    writer = GGUFWriter(path, tiny.architecture)
    writer.add_block_count(LAYERS.get(tiny.architecture, 2))
    writer.add_context_length(tiny.context)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    keys = {"rope.freq_base": 100000.0, **KEYS.get(tiny.architecture, {}), **dict(tiny.keys)}
    for key, value in keys.items():
        name = key if key.startswith("general.") else f"{tiny.architecture}.{key}"
        add_key(writer, name, value)
    add = add_sentence_piece if tiny.sentence_piece else add_byte_level
    vocabulary = add(writer, tiny)
    if tiny.template is not None:
        writer.add_chat_template(tiny.template)
    random = np.random.default_rng(7)
    for name, shape, kind in tensors(tiny, vocabulary):
        add_tensor(writer, name, weights(random, name, shape), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_key(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def weights(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values: np.ndarray = random.standard_normal(shape).astype(np.float32) / np.sqrt(shape[-1])
    return np.abs(values) + np.float32(0.5) if name.startswith("rope_f") else values


def add_tensor(writer: GGUFWriter, name: str, values: np.ndarray, kind: str) -> None:
    type_ = GGMLQuantizationType[kind]
    try:
        data = quantize(values, type_)
    except NotImplementedError:  # the package only reads this type
        data = random_blocks(type_, values.shape)
    writer.add_tensor(name, data, raw_dtype=type_)


def random_blocks(
    type_: GGMLQuantizationType, shape: tuple[int, ...], scale: float = 0.002
) -> np.ndarray:
    """Rows of blocks with any bits at all, but for their float16, which are about `scale`."""
    from rapport.models.weights.blocks import FORMATS  # noqa: PLC0415

    random = np.random.default_rng(sum(shape))
    weights_, size = GGML_QUANT_SIZES[type_]
    blocks = random.integers(0, 256, (*shape[:-1], shape[-1] // weights_, size), np.uint8)
    for place in FORMATS[type_].halves if type_ in FORMATS else ():
        halves = (scale * random.standard_normal((*blocks.shape[:-1], 1))).astype(np.float16)
        blocks[..., place : place + 2] = halves.view(np.uint8)
    return blocks.reshape(*shape[:-1], -1)


def add_byte_level(writer: GGUFWriter, tiny: Tiny) -> int:
    tokens = ["<|endoftext|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "th", "the", "<tool>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tiny.pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 3) + [4])
    writer.add_token_merges(["t h", "th e"])
    writer.add_eos_token_id(1)
    return len(tokens)


PIECES = ("▁", "t", "h", "e", "th", "the", "▁the", "▁▁", "c", "a", "at", "▁c", "▁cat", "é")


def add_sentence_piece(writer: GGUFWriter, _: Tiny) -> int:
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", "<s>", "</s>", "<tool>", *bytes_, *PIECES]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 260 + [-float(place) for place in range(len(PIECES))])
    writer.add_token_types([2, 3, 3, 4] + [6] * 256 + [1] * len(PIECES))
    writer.add_add_space_prefix(False)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return len(tokens)


def tensors(tiny: Tiny, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Names, shapes and kinds. Vectors are floats."""
    yield "token_embd.weight", (vocabulary, HIDDEN), tiny.embedding
    yield "output_norm.weight", (HIDDEN,), "F32"
    if tiny.output:
        yield "output.weight", (vocabulary, HIDDEN), tiny.output
    if tiny.extra_tensor:
        yield tiny.extra_tensor, (HIDDEN,), "F32"
    for name, shape in tiny.extra:
        yield name, shape, "F32"
    for layer in range(LAYERS.get(tiny.architecture, 2)):
        for part, shape in PARTS.get(tiny.architecture, PARTS["llama"]).items():
            kind = tiny.value_kind if part == "attn_v.weight" and tiny.value_kind else tiny.kind
            name = f"blk.{layer}.{part}"
            if name not in tiny.left_out:
                yield name, shape, "F32" if part in FLOATS or len(shape) == 1 else kind


# What departs from the usual file in each of the models whose logits are compared.
LINEAR = (("rope.scaling.type", "linear"), ("rope.scaling.factor", 8.0))
YARN = (
    *(("rope.scaling.type", "yarn"), ("rope.scaling.factor", 4.0)),
    ("rope.scaling.original_context_length", 32),
)
LONGROPE = (
    ("rope.scaling.original_context_length", 32),
    ("rope.scaling.attn_factor", math.sqrt(1 + math.log(CONTEXT / 32) / math.log(32))),
)
LONGROPE_FACTORS = (("rope_factors_long.weight", (8,)), ("rope_factors_short.weight", (8,)))
SLIDING_WINDOW = ("attention.sliding_window", WINDOW)
LLAMA_BIASES = (("attn_q", 64), ("attn_k", 32), ("attn_output", 64), ("ffn_up", 96))
MODELS: dict[str, dict[str, Any]] = {
    "qwen2": {"architecture": "qwen2"},
    "qwen3": {"architecture": "qwen3"},
    "qwen3moe": {"architecture": "qwen3moe"},
    "phi3": {"architecture": "phi3"},
    "phi3 with LongRoPE": {"architecture": "phi3", "keys": LONGROPE, "extra": LONGROPE_FACTORS},
    "gemma2": {"architecture": "gemma2"},
    "gemma3": {"architecture": "gemma3"},
    "gemma3 with linear scaling": {"architecture": "gemma3", "keys": LINEAR},
    "granite": {"architecture": "granite"},
    "smollm3": {"architecture": "smollm3"},
    "olmo2": {"architecture": "olmo2"},
    "olmo2 with a window": {"architecture": "olmo2", "keys": (SLIDING_WINDOW, *YARN)},
    "llama with a window": {"keys": (SLIDING_WINDOW,)},
    "llama with linear scaling": {"keys": LINEAR},
    "llama with YaRN": {"keys": YARN},
    "llama with factors": {"extra": (("rope_freqs.weight", (8,)),)},
    "llama with experts": {
        "keys": (("expert_count", EXPERTS), ("expert_used_count", ACTIVE_EXPERTS)),
        "left_out": tuple(
            f"blk.{layer}.{part}" for layer in range(2) for part in MATRICES.keys() - MIXTURE.keys()
        ),
        "extra": tuple(
            (f"blk.{layer}.{part}", shape)
            for layer in range(2)
            for part, shape in MIXTURE.items()
            if part not in MATRICES
        ),
    },
    "llama with biases": {
        "extra": tuple(
            (f"blk.{layer}.{part}.bias", (size,))
            for layer in range(2)
            for part, size in LLAMA_BIASES
        )
    },
}
# A prompt longer than any window.
LONG = [1, *(int(id_) for id_ in np.random.default_rng(3).integers(2, 258, 99))]
