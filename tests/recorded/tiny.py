"""A tiny llama of random weights with the tokenizer and the template of the real model.

It computes the same on any CPU: in float32, and with scores so far apart that rounding changes
no answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

from tests.recorded.adapters import import_file, real_folder

LAYERS, HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 2, 64, 4, 2, 128, 512
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # types of tokens
SEED = 20
# The standard deviation of a token's score.
SCALE = 4.0

Floats = NDArray[np.float32]


def tiny_folder(place: Path, noise: float = 0.0) -> Path:
    """The model's folder, made in `place`. Its id is "tiny".

    With `noise` each weight is off by about that part of itself, to see what rounding could do.
    """
    place.mkdir(parents=True, exist_ok=True)
    gguf = write_gguf(place / "tiny.gguf", real_folder(), noise)
    return import_file(gguf, place / "cache")


def write_gguf(path: Path, words: Path, noise: float = 0.0, context: int = CONTEXT) -> Path:
    """Writes the model's file, with tokenizer and template of the model folder `words`."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(context)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = add_vocabulary(writer, words)
    for name, values in weights(tokens, noise):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_vocabulary(writer: GGUFWriter, folder: Path) -> int:
    """Adds what a model folder has of tokens and template. Returns how many tokens there are."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    ids: dict[str, int] = tokenizer["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(sorted(ids, key=ids.__getitem__))
    writer.add_token_types(types_of(len(ids), tokenizer["added_tokens"]))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(about["eos_token_ids"][0])
    writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))
    return len(ids)


def types_of(count: int, added: list[dict[str, Any]]) -> list[int]:
    types = [NORMAL] * count
    for token in added:
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    return types


def weights(tokens: int, noise: float) -> Iterator[tuple[str, Floats]]:
    """Tensors by name, the same ones every time, with the noise on top."""
    random, other = np.random.default_rng(SEED), np.random.default_rng()
    for name, shape, scale in shapes(tokens):
        values = random.standard_normal(shape) * scale if len(shape) > 1 else np.ones(shape)
        if noise:
            values *= 1 + noise * other.standard_normal(shape)
        yield name, values.astype(np.float32)


def shapes(tokens: int) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Names, shapes and standard deviations."""
    kept = KV_HEADS * HIDDEN // HEADS
    matrices = {
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (kept, HIDDEN),
        "attn_v": (kept, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_gate": (FEED_FORWARD, HIDDEN),
        "ffn_up": (FEED_FORWARD, HIDDEN),
        "ffn_down": (HIDDEN, FEED_FORWARD),
    }
    yield "token_embd.weight", (tokens, HIDDEN), 1.0
    yield "output_norm.weight", (HIDDEN,), 1.0
    yield "output.weight", (tokens, HIDDEN), SCALE / HIDDEN**0.5
    for layer in range(LAYERS):
        yield f"blk.{layer}.attn_norm.weight", (HIDDEN,), 1.0
        yield f"blk.{layer}.ffn_norm.weight", (HIDDEN,), 1.0
        for part, shape in matrices.items():
            yield f"blk.{layer}.{part}.weight", shape, 1.5 / shape[1] ** 0.5
