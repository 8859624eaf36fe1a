"""What transformers calls the tensors of GGUF files."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rapport.models.decoder.families import POST_NORMS, Family

LAYER = re.compile(r"model\.layers\.(?P<layer>0|[1-9]\d{0,4})\.(?P<part>.+)\.(?P<kind>weight|bias)")
GGUF_LAYER = re.compile(r"blk\.(?P<layer>\d+)\.(?P<part>\w+)\.(?P<kind>weight|bias)")
# Old files have the frequencies of rotary embeddings, which config.json says as well.
FREQUENCIES = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
# The same name stands for the norm behind attention or, where there is none, that before the
# feed-forward layer.
NORMS = {"post_attention_layernorm": "ffn_norm"}
MORE_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


class TensorNames:
    """The names of a family's tensors, both ways."""

    def __init__(self, family: Family) -> None:
        packed = "ffn_gate.weight" not in family.parts
        left_out = ("mlp.gate_proj", "mlp.up_proj") if packed else ("mlp.gate_up_proj",)
        norms = MORE_NORMS if POST_NORMS[0] in family.parts else NORMS
        parts = {name: part for name, part in PARTS.items() if name not in left_out}
        self._parts: Mapping[str, str] = parts | norms
        self._names = {part: name for name, part in self._parts.items()}

    def in_gguf(self, name: str) -> str | None:
        """What GGUF files call a tensor; None if they have no such tensor."""
        if name in OUTSIDE:
            return OUTSIDE[name]
        found = LAYER.fullmatch(name)
        if found is None or found["part"] not in self._parts:
            return None
        return f"blk.{found['layer']}.{self._parts[found['part']]}.{found['kind']}"

    def in_transformers(self, name: str) -> str:
        """What transformers calls a tensor of GGUF files."""
        found = GGUF_LAYER.fullmatch(name)
        if found is None:
            return next(other for other, known in OUTSIDE.items() if known == name)
        return f"model.layers.{found['layer']}.{self._names[found['part']]}.{found['kind']}"
