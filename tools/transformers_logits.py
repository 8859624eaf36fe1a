"""Records the configurations and logits of transformers for the tiny models of the tests.

It needs torch, transformers and gguf, the first two of which no other part of Rapport does. It runs
in an environment of its own that has them:

    PYTHONPATH=. python tools/transformers_logits.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tests.models.huggingface.tiny_folder import in_transformers, tensors_in
from tests.models.tiny import (
    ACTIVE_EXPERTS,
    CONTEXT,
    EXPERTS,
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

FOLDER = Path(__file__).parents[1] / "tests/models"
LOGITS = FOLDER / "transformers_logits.npz"
CONFIGURATIONS_FILE = FOLDER / "transformers_configurations.json"
ROWS = [0, 7, 8, 40, 99]
BASE = 100000.0
CLASSES = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3moe": "Qwen3Moe",
    "phi3": "Phi3",
    "gemma2": "Gemma2",
    "gemma3": "Gemma3",
    "granite": "Granite",
    "smollm3": "SmolLM3",
    "olmo2": "Olmo2",
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
    "qwen3moe": {
        "moe_intermediate_size": FEED_FORWARD,
        "num_experts": EXPERTS,
        "num_experts_per_tok": ACTIVE_EXPERTS,
        "norm_topk_prob": True,
    },
    "llama with experts": {
        "class": "Mixtral",
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": ACTIVE_EXPERTS,
    },
    "llama with a window": {"class": "Mistral", "sliding_window": 8},
    "llama with linear scaling": {"rope_parameters": LINEAR},
    "llama with YaRN": {"rope_parameters": YARN},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
}


def main() -> None:
    arrays: dict[str, Any] = {}
    configurations = {}
    for name, departures in MODELS.items():
        tiny = replace(Tiny(kind="F32", embedding="F32"), **departures)
        with tempfile.TemporaryDirectory() as folder:
            tensors = tensors_in(write_tiny(Path(folder, "tiny.gguf"), tiny))
        configuration = configuration_of(name, tiny.architecture, tensors)
        configurations[name] = json.loads(configuration.to_json_string())
        arrays[name] = logits_of(configuration, tiny.architecture, tensors)
    np.savez_compressed(LOGITS, rows=ROWS, **arrays)
    CONFIGURATIONS_FILE.write_text(json.dumps(configurations, indent=1) + "\n")
    sys.stdout.write(f"{len(arrays)} models, {LOGITS.stat().st_size} bytes of logits\n")


def logits_of(
    configuration: Any, architecture: str, tensors: dict[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The logits of transformers for some rows of the prompt."""
    model_class = getattr(transformers, configuration.architectures[0])
    model = model_class(configuration).eval().float()
    state = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    stored = in_transformers(tensors, architecture)
    state |= {name: torch.tensor(values) for name, values in stored.items()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    if "rope_freqs.weight" in tensors:
        model.model.rotary_emb.inv_freq /= torch.tensor(tensors["rope_freqs.weight"])
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([LONG])).logits[0, ROWS].numpy()
    return logits


def configuration_of(name: str, architecture: str, tensors: dict[str, NDArray[np.float32]]) -> Any:
    """The configuration of the model in a GGUF file with these tensors."""
    layers = 1 + max(int(tensor.split(".")[1]) for tensor in tensors if tensor.startswith("blk."))
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
    return getattr(transformers, f"{prefix}{text}Config")(
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD,
        intermediate_size=FEED_FORWARD,
        vocab_size=len(tensors["token_embd.weight"]),
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        attn_implementation="eager",
        architectures=[f"{prefix}ForCausalLM"],
        tie_word_embeddings=True,
        **options,
    )


if __name__ == "__main__":
    main()
