"""Reads config.json of a Hugging Face folder: what it says, by the keys of GGUF files."""

from __future__ import annotations

from typing import Any

from rapport.models.decoder.families import FAMILIES
from rapport.models.huggingface.json_file import JsonFile

# What GGUF files call the architecture of a `model_type`.
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "granite": "granite",
    "smollm3": "smollm3",
    "olmo2": "olmo2",
    "olmo3": "olmo2",
}
NAMES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attention.scale": "attention_multiplier",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
MAX_LAYERS = 10_000
SILU, GELU = ("silu", "swish"), ("gelu_pytorch_tanh", "gelu_new")
FULL, SLIDING = "full_attention", "sliding_attention"


def architecture_of(config: JsonFile) -> str:
    """What GGUF files call the architecture.

    Raises:
        CorruptFileError: the file does not say it.
        UnsupportedModelError: it is not known, or something of it is not.
    """
    model_type = config.value("model_type", str)
    if model_type is None:
        raise config.corrupt("it does not say its model_type")
    if model_type not in ARCHITECTURES:
        raise config.unsupported(f"model_type {model_type}", ARCHITECTURES)
    if (quantised := config.value("quantization_config", dict)) is not None:
        method = quantised.get("quant_method")
        raise config.unsupported(f"quantization_config {method}", ["weights in floats"])
    architecture = ARCHITECTURES[model_type]
    activation = config.value("hidden_activation", str) or config.value("hidden_act", str)
    known = GELU if FAMILIES[architecture].gelu else SILU
    if activation is not None and activation not in known:
        raise config.unsupported(f"activation {activation}", known)
    return architecture


def keys_of(config: JsonFile, architecture: str) -> dict[str, Any]:
    """What the file says, but for rotary embeddings, by the keys of GGUF.

    Raises:
        CorruptFileError: it contradicts itself.
        UnsupportedModelError: it has something that the graph cannot compute.
    """
    keys = {
        key: config.values[name]
        for key, name in NAMES.items()
        if config.values.get(name) is not None
    }
    # Gemma's. It stands for the size of a head, whose root divides the products.
    if "query_pre_attn_scalar" in config.values:
        scalar = config.positive("query_pre_attn_scalar", None, config.values)
        keys["attention.scale"] = scalar**-0.5
    if not _has_window(config, architecture):
        keys.pop("attention.sliding_window", None)
    _check_unrotated(config, architecture)
    return keys


def _has_window(config: JsonFile, architecture: str) -> bool:
    """Whether any layer has a window, and those that have one are those of the architecture."""
    if config.value("sliding_window", int) is None:
        return False
    if config.value("use_sliding_window", bool) is False:
        return False
    types = _layer_types(config)
    if types is None:
        return True
    every = FAMILIES[architecture].global_every
    pattern = [
        FULL if every and (layer + 1) % every == 0 else SLIDING for layer in range(len(types))
    ]
    if types not in (pattern, [FULL] * len(types)):
        known = f"full_attention in one layer of {every}" if every else "one type for all"
        raise config.unsupported(f"layer_types {_shortened(types)}", [known])
    return types == pattern


def _layer_types(config: JsonFile) -> list[Any] | None:
    """The types of layers, where the file says them."""
    types = config.value("layer_types", list)
    full = config.value("max_window_layers", int)
    if types is not None or full is None:
        return types
    # Older files of Qwen: the first so many layers have no window.
    layers = config.value("num_hidden_layers", int) or 0
    if layers > MAX_LAYERS:
        raise config.corrupt(f"num_hidden_layers is {layers}, over {MAX_LAYERS}")
    return [FULL if layer < full else SLIDING for layer in range(layers)]


def _check_unrotated(config: JsonFile, architecture: str) -> None:
    rotated = config.value("no_rope_layers", list)  # 1 for the layers that are rotated
    if rotated is None:
        return
    every = FAMILIES[architecture].unrotated_every
    if rotated != [int(not every or (layer + 1) % every > 0) for layer in range(len(rotated))]:
        known = f"0 for one layer of {every}" if every else "1 for all"
        raise config.unsupported(f"no_rope_layers {_shortened(rotated)}", [known])


def _shortened(items: list[Any]) -> str:
    """The first items of a list."""
    return ", ".join(map(str, items[:8]))
