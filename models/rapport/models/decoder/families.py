"""What the models of each architecture need: one table, over which there is one graph.

Architectures, their tensors and their keys are called as in GGUF files, whatever a model's source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NORMS = ("attn_norm.weight", "ffn_norm.weight")
POST_NORMS = ("post_attention_norm.weight", "post_ffw_norm.weight")
HEAD_NORMS = ("attn_q_norm.weight", "attn_k_norm.weight")
QUERY_KEY_VALUE = ("attn_q.weight", "attn_k.weight", "attn_v.weight")
QUERY_KEY_VALUE_BIASES = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
OUTPUT_BIASES = ("attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias")
GATE_AND_UP = ("ffn_gate.weight", "ffn_up.weight")
OUTPUTS = ("attn_output.weight", "ffn_down.weight")
FEED_FORWARD = (*GATE_AND_UP, "ffn_down.weight")
# What a layer has instead in a mixture of experts: their router, and the matrices of all of them.
EXPERT_MATRICES = ("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight")
EXPERTS = ("ffn_gate_inp.weight", *EXPERT_MATRICES)
ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of an architecture have in common.

    Attributes:
        parts: The tensors of each layer.
        optional: Tensors that a layer may have besides.
        interleaved: Whether llama.cpp has interleaved the halves of each query and key.
        gelu: Whether the gate is GELU, approximated by tanh, and not SiLU.
        embedding_by_width: Whether token vectors are multiplied by the root of their width.
        global_every: Of so many layers the last has no window; 0: each has one, if any.
        local_rope: Whether layers with a window have a rotation of their own.
        unrotated_every: Of so many layers the last has no rotation; 0: each has one.
        may_have_experts: Whether a model may be a mixture of experts.
    """

    parts: tuple[str, ...] = (*NORMS, *QUERY_KEY_VALUE, *GATE_AND_UP, *OUTPUTS)
    optional: tuple[str, ...] = ()
    interleaved: bool = False
    gelu: bool = False
    embedding_by_width: bool = False
    global_every: int = 0
    local_rope: bool = False
    unrotated_every: int = 0
    may_have_experts: bool = False


_LLAMA = Family()
FAMILIES: Mapping[str, Family] = {
    "llama": Family(
        optional=(*QUERY_KEY_VALUE_BIASES, *OUTPUT_BIASES), interleaved=True, may_have_experts=True
    ),
    "qwen2": Family(parts=(*_LLAMA.parts, *QUERY_KEY_VALUE_BIASES)),
    "qwen3": Family(parts=(*_LLAMA.parts, *HEAD_NORMS)),
    "qwen3moe": Family(parts=(*_LLAMA.parts, *HEAD_NORMS), may_have_experts=True),
    "phi3": Family(parts=(*NORMS, "attn_qkv.weight", "ffn_up.weight", *OUTPUTS)),
    "gemma2": Family(
        parts=(*_LLAMA.parts, *POST_NORMS), gelu=True, embedding_by_width=True, global_every=2
    ),
    "gemma3": Family(
        parts=(*_LLAMA.parts, *POST_NORMS, *HEAD_NORMS),
        gelu=True,
        embedding_by_width=True,
        global_every=6,
        local_rope=True,
    ),
    "granite": Family(optional=(*QUERY_KEY_VALUE_BIASES, *OUTPUT_BIASES), interleaved=True),
    "smollm3": Family(interleaved=True, unrotated_every=4),
    "olmo2": Family(
        parts=(*QUERY_KEY_VALUE, *GATE_AND_UP, *OUTPUTS, *POST_NORMS, *HEAD_NORMS),
        global_every=4,
        local_rope=True,
    ),
}
# Gemma's largest models scale attention by the width for a head, not by the size of a head; their
# files do not say so. Source: query_pre_attn_scalar in the config.json of Gemma 2 and 3 27B.
GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}
