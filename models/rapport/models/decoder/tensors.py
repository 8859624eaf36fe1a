"""The tensors that a model of an architecture has, and their shapes."""

from __future__ import annotations

from rapport.models.decoder.architecture import Architecture
from rapport.models.decoder.families import (
    EXPERTS,
    FEED_FORWARD,
    HEAD_NORMS,
    NORMS,
    POST_NORMS,
    ROPE_FACTORS,
)
from rapport.models.decoder.source import Source
from rapport.models.weights.matrix import FLOATS, SUPPORTED


def check_tensors(source: Source, architecture: Architecture) -> None:
    """Checks that the tensors are those of the architecture, in types and shapes that it knows.

    Raises:
        CorruptFileError: one is missing, or has another shape.
        UnsupportedModelError: one is not known, or of an unknown type.
    """
    family, called = architecture.family, source.name_of_tensor
    layers = [f"blk.{layer}." for layer in range(architecture.layers)]
    needed = {f"{layer}{part}" for layer in layers for part in _parts(architecture)}
    needed |= {"token_embd.weight", "output_norm.weight"}
    optional = {f"{layer}{part}" for layer in layers for part in family.optional}
    optional |= {"output.weight", *ROPE_FACTORS}
    for name in sorted(source.tensors.keys() - needed - optional):
        plain = f"those of a plain {source.architecture_name} model"
        raise source.unsupported(f"tensor {called(name)}", plain)
    for name in sorted(needed - source.tensors.keys()):
        raise source.corrupt(f"it has no tensor {called(name)}")
    shapes = _shapes(architecture)
    for name, tensor in source.tensors.items():
        known = SUPPORTED if len(tensor.shape) > 1 else FLOATS
        if tensor.kind not in known:
            kinds = [kind.name for kind in known]
            raise source.unsupported(f"type {tensor.kind.name} of tensor {called(name)}", kinds)
        part = name.split(".", 2)[-1] if name.startswith("blk.") else name
        if part not in ROPE_FACTORS and tensor.shape != shapes[part]:
            raise source.corrupt(f"tensor {called(name)} is {tensor.shape}, not {shapes[part]}")


def _parts(architecture: Architecture) -> list[str]:
    """The tensors that each layer has."""
    parts = architecture.family.parts
    if not architecture.experts:
        return list(parts)
    return [*(part for part in parts if part not in FEED_FORWARD), *EXPERTS]


def _shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors, outputs before inputs, by their names without the layer."""
    hidden, feed_forward = architecture.hidden, architecture.feed_forward
    queries = architecture.heads * architecture.head_size
    keys = architecture.kv_heads * architecture.head_size
    experts = architecture.experts
    packed_gate = "ffn_gate.weight" not in architecture.family.parts
    matrices = {
        "attn_q": (queries, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_qkv": (queries + 2 * keys, hidden),
        "attn_output": (hidden, queries),
        "ffn_gate": (feed_forward, hidden),
        "ffn_up": (feed_forward * (2 if packed_gate else 1), hidden),
        "ffn_down": (hidden, feed_forward),
        "ffn_gate_inp": (experts, hidden),
        "ffn_gate_exps": (experts, feed_forward, hidden),
        "ffn_up_exps": (experts, feed_forward, hidden),
        "ffn_down_exps": (experts, hidden, feed_forward),
        "output": (architecture.vocab_size, hidden),
        "token_embd": (architecture.vocab_size, hidden),
    }
    whole = NORMS[0] not in architecture.family.parts  # Olmo's norms are of all heads together
    head_norms = (queries, keys) if whole else (architecture.head_size,) * 2
    return {
        **{f"{name}.weight": shape for name, shape in matrices.items()},
        **{f"{name}.bias": shape[:1] for name, shape in matrices.items()},
        **dict.fromkeys((*NORMS, *POST_NORMS, "output_norm.weight"), (hidden,)),
        **{name: (size,) for name, size in zip(HEAD_NORMS, head_norms, strict=True)},
    }
