"""Records the logits of transformers for the tiny models of the tests.

It needs torch, transformers and gguf, the first two of which no other part of Rapport does. It runs
in an environment of its own that has them:

    PYTHONPATH=. python tools/transformers_logits.py
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGUFReader
from numpy.typing import NDArray

from tests.models.tiny import (
    CONTEXT,
    FEED_FORWARD,
    HEAD,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LONG,
    MODELS,
    Tiny,
    write_tiny,
)

FILE = Path(__file__).parents[1] / "tests/models/transformers_logits.npz"
ROWS = [0, 7, 8, 40, 99]
BASE = 100000.0
INTERLEAVED = ("llama", "granite", "smollm3")
CLASSES = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "phi3": "Phi3",
    "gemma2": "Gemma2",
    "gemma3": "Gemma3",
    "granite": "Granite",
    "smollm3": "SmolLM3",
    "olmo2": "Olmo2",
}
PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
LINEAR = {"rope_type": "linear", "factor": 8.0, "rope_theta": BASE}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_theta": BASE,
}
PLAIN = {"rope_type": "default", "rope_theta": BASE}
LOCAL = {"rope_type": "default", "rope_theta": 10000.0}
GLOBAL = {"rope_type": "default", "rope_theta": 1000000.0}
# What the configurations say besides the sizes.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "phi3": {"sliding_window": 8},
    "phi3 with LongRoPE": {"sliding_window": 8, "original_max_position_embeddings": 32},
    "gemma2": {
        "sliding_window": 8,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        "query_pre_attn_scalar": HEAD,
    },
    "gemma3": {
        "sliding_window": 8,
        "query_pre_attn_scalar": HEAD,
        "rope_parameters": {"sliding_attention": LOCAL, "full_attention": GLOBAL},
    },
    "gemma3 with linear scaling": {
        "sliding_window": 8,
        "query_pre_attn_scalar": HEAD,
        "rope_parameters": {
            "sliding_attention": LOCAL,
            "full_attention": {**LINEAR, "rope_theta": 1000000.0},
        },
    },
    "granite": {
        "attention_multiplier": 0.1,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.4,
        "logits_scaling": 5.0,
    },
    "olmo2 with a window": {
        "class": "Olmo3",
        "sliding_window": 8,
        "rope_parameters": {"sliding_attention": PLAIN, "full_attention": YARN},
    },
    "llama with a window": {"class": "Mistral", "sliding_window": 8},
    "llama with linear scaling": {"rope_parameters": LINEAR},
    "llama with YaRN": {"rope_parameters": YARN},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
}


def main() -> None:
    arrays: dict[str, Any] = {name: logits_of(name, model) for name, model in MODELS.items()}
    np.savez_compressed(FILE, rows=ROWS, **arrays)
    sys.stdout.write(f"{FILE}: {len(arrays)} models, {FILE.stat().st_size} bytes\n")


def logits_of(name: str, departures: dict[str, Any]) -> NDArray[np.float32]:
    """The logits of transformers for some rows of the prompt."""
    tiny = replace(Tiny(kind="F32", embedding="F32"), **departures)
    with tempfile.TemporaryDirectory() as folder:
        reader = GGUFReader(write_tiny(Path(folder, "tiny.gguf"), tiny))
        tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
        layers = reader.fields[f"{tiny.architecture}.block_count"].contents()
    model = model_of(name, tiny.architecture, layers, len(tensors["token_embd.weight"]), tensors)
    state = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    for tensor, values in tensors.items():
        if not tensor.startswith("rope_"):
            key = key_of(tensor, tiny.architecture)
            state[key] = torch.tensor(in_order(tensor, values, tiny.architecture))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    if "rope_freqs.weight" in tensors:
        model.model.rotary_emb.inv_freq /= torch.tensor(tensors["rope_freqs.weight"])
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([LONG])).logits[0, ROWS].numpy()
    return logits


def model_of(
    name: str,
    architecture: str,
    layers: int,
    vocab_size: int,
    tensors: dict[str, NDArray[np.float32]],
) -> Any:
    options = {"rope_parameters": PLAIN, **CONFIGURATIONS.get(name, {})}
    if name == "phi3 with LongRoPE":
        options["rope_parameters"] = {
            "rope_type": "longrope",
            "rope_theta": BASE,
            "original_max_position_embeddings": 32,
            "short_factor": tensors["rope_factors_short.weight"].tolist(),
            "long_factor": tensors["rope_factors_long.weight"].tolist(),
        }
    prefix = options.pop("class", CLASSES[architecture])
    text = "Text" if prefix == "Gemma3" else ""
    configuration = getattr(transformers, f"{prefix}{text}Config")(
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD,
        intermediate_size=FEED_FORWARD,
        vocab_size=vocab_size,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        pad_token_id=0,
        attn_implementation="eager",
        **options,
    )
    return getattr(transformers, f"{prefix}ForCausalLM")(configuration).eval().float()


def key_of(tensor: str, architecture: str) -> str:
    """What transformers calls a tensor of a GGUF file."""
    if not tensor.startswith("blk."):
        return {
            "token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": "model.norm.weight",
        }[tensor]
    _, layer, part, suffix = tensor.split(".")
    name = PARTS.get(part, "post_attention_layernorm")
    if part == "ffn_norm" and architecture.startswith("gemma"):
        name = "pre_feedforward_layernorm"
    if part == "ffn_up" and architecture == "phi3":
        name = "mlp.gate_up_proj"
    return f"model.layers.{layer}.{name}.{suffix}"


def in_order(tensor: str, values: NDArray[np.float32], architecture: str) -> NDArray[np.float32]:
    """The values as transformers has them: Gemma's norms are off by one, and rows by llama.cpp."""
    if architecture.startswith("gemma") and "norm" in tensor:
        return values - 1
    heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(tensor.split(".")[-2], 0)
    if not heads or architecture not in INTERLEAVED:
        return values
    pairs = values.reshape(heads, HEAD // 2, 2, -1).swapaxes(1, 2)
    return np.ascontiguousarray(pairs).reshape(values.shape)


if __name__ == "__main__":
    main()
