"""Writes the tiny models as Hugging Face folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.models.tiny import HEAD, HEADS, KV_HEADS, TEMPLATE

CONFIGURATIONS = Path(__file__).parents[1] / "transformers_configurations.json"
INTERLEAVED = ("llama", "granite", "smollm3")
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
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_up_exps": "mlp.experts.gate_up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def configuration(name: str) -> dict[str, Any]:
    """The config.json of a tiny model, as transformers writes it."""
    found: dict[str, Any] = json.loads(CONFIGURATIONS.read_text())[name]
    return found


def tensors_in(gguf: Path) -> dict[str, NDArray[np.float32]]:
    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(gguf).tensors}


def in_transformers(
    tensors: Mapping[str, NDArray[np.float32]], architecture: str
) -> dict[str, NDArray[np.float32]]:
    """The tensors of a GGUF file by the names of transformers, and as it has them."""
    return {
        key_of(name, architecture): in_order(name, values, architecture)
        for name, values in with_joined_experts(tensors).items()
        if not name.startswith("rope_")
    }


def with_joined_experts(
    tensors: Mapping[str, NDArray[np.float32]],
) -> dict[str, NDArray[np.float32]]:
    """The tensors with the gates of experts and their ups in one."""
    joined = dict(tensors)
    for gate in [name for name in tensors if "ffn_gate_exps" in name]:
        up, both = (gate.replace("gate_exps", f"{part}_exps") for part in ("up", "gate_up"))
        joined[both] = np.concatenate([joined.pop(gate), joined.pop(up)], axis=1)
    return joined


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
    return f"model.layers.{layer}.{name}" + ("" if "_exps" in part else f".{suffix}")


def in_order(tensor: str, values: NDArray[np.float32], architecture: str) -> NDArray[np.float32]:
    """The values as transformers has them: Gemma's norms are off by one, and rows by llama.cpp."""
    if architecture.startswith("gemma") and "norm" in tensor:
        return values - 1
    heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(tensor.split(".")[-2], 0)
    if not heads or architecture not in INTERLEAVED:
        return values
    pairs = values.reshape(heads, HEAD // 2, 2, -1).swapaxes(1, 2)
    return np.ascontiguousarray(pairs).reshape(values.shape)


def write_folder(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    tokenizer: str,
    shards: int = 1,
) -> Path:
    """Writes what `save_pretrained` writes, in so many files of tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return folder
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file({name: tensors[name] for name in names[number::shards]}, folder / file)
        weight_map |= dict.fromkeys(names[number::shards], file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
