"""What the models of each architecture need: one table, over which there is one graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rapport.models.gguf.reader import GgufFile
from rapport.models.gguf.rope import DEFAULT_BASE, Rope, read_rope, unscaled_rope
from rapport.models.gguf.weights import FLOATS, SUPPORTED

# The graph has a table of rotary angles with a row for each token of the context.
MAX_CONTEXT_TOKENS = 1 << 20
# GroupQueryAttention needs a head's size to be a multiple of this, and of the second one where only
# a part of the head is rotated.
HEAD_SIZE_MULTIPLE = 8
PARTIAL_ROPE_MULTIPLE = 16

NORMS = ("attn_norm.weight", "ffn_norm.weight")
POST_NORMS = ("post_attention_norm.weight", "post_ffw_norm.weight")
HEAD_NORMS = ("attn_q_norm.weight", "attn_k_norm.weight")
QUERY_KEY_VALUE = ("attn_q.weight", "attn_k.weight", "attn_v.weight")
QUERY_KEY_VALUE_BIASES = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
OUTPUT_BIASES = ("attn_output.bias", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias")
GATE_AND_UP = ("ffn_gate.weight", "ffn_up.weight")
OUTPUTS = ("attn_output.weight", "ffn_down.weight")
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
    """

    parts: tuple[str, ...] = (*NORMS, *QUERY_KEY_VALUE, *GATE_AND_UP, *OUTPUTS)
    optional: tuple[str, ...] = ()
    interleaved: bool = False
    gelu: bool = False
    embedding_by_width: bool = False
    global_every: int = 0
    local_rope: bool = False
    unrotated_every: int = 0


_LLAMA = Family()
FAMILIES: Mapping[str, Family] = {
    "llama": Family(optional=(*QUERY_KEY_VALUE_BIASES, *OUTPUT_BIASES), interleaved=True),
    "qwen2": Family(parts=(*_LLAMA.parts, *QUERY_KEY_VALUE_BIASES)),
    "qwen3": Family(parts=(*_LLAMA.parts, *HEAD_NORMS)),
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


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors, 1 for none, and soft caps, 0 for none.

    A soft cap is `cap * tanh(x / cap)`. `attention` 0 stands for the root of a head's size.
    """

    embedding: float = 1.0
    residual: float = 1.0
    attention: float = 0.0
    logits: float = 1.0
    attention_cap: float = 0.0
    logits_cap: float = 0.0


@dataclass(frozen=True, slots=True)
class Architecture:
    """The dimensions of a model, and what its layers are.

    `window` is how many keys a query of a layer with a window sees, its own among them; 0: all.
    """

    family: Family
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    context_length: int
    vocab_size: int
    epsilon: float
    window: int
    rope: Rope
    local_rope: Rope
    scales: Scales

    def window_of(self, layer: int) -> int:
        every = self.family.global_every
        return 0 if every and (layer + 1) % every == 0 else self.window

    def rope_of(self, layer: int) -> Rope | None:
        every = self.family.unrotated_every
        if every and (layer + 1) % every == 0:
            return None
        return self.local_rope if self.window_of(layer) else self.rope


def read_architecture(file: GgufFile) -> Architecture:
    """The architecture of a file, whose tensors are checked to be those of it.

    Raises:
        CorruptFileError: the file contradicts itself.
        UnsupportedModelError: it has something that the graph cannot compute.
    """
    if file.architecture_name not in FAMILIES:
        raise file.unsupported(f"architecture {file.architecture_name}", FAMILIES.keys())
    reader = _ArchitectureReader(file, FAMILIES[file.architecture_name])
    architecture = reader.read()
    _check_tensors(file, architecture)
    return architecture


class _ArchitectureReader:
    def __init__(self, file: GgufFile, family: Family) -> None:
        self.file = file
        self.family = family
        self.heads = file.count("attention.head_count")
        self.hidden = file.count("embedding_length")
        self.head_size = file.count("attention.key_length", max(self.hidden // self.heads, 1))
        self.layers = file.count("block_count")
        if self.layers > len(file.tensors):
            raise file.corrupt(f"it has {self.layers} layers and {len(file.tensors)} tensors")

    def read(self) -> Architecture:
        context_length = self.file.count("context_length", maximum=MAX_CONTEXT_TOKENS)
        rope = read_rope(self.file, self.rotated, context_length)
        return Architecture(
            family=self.family,
            layers=self.layers,
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_size=self.head_size,
            feed_forward=self.file.count("feed_forward_length"),
            context_length=context_length,
            vocab_size=self.vocab_size,
            epsilon=self.file.positive("attention.layer_norm_rms_epsilon"),
            window=self.window(context_length),
            rope=rope,
            local_rope=self.local_rope(rope),
            scales=self.scales,
        )

    @property
    def vocab_size(self) -> int:
        shape = self.file.tensor("token_embd.weight").shape
        if len(shape) != 2:  # noqa: PLR2004 - a matrix
            raise self.file.corrupt(f"tensor token_embd.weight is {shape}, not a matrix")
        return shape[0]

    @property
    def kv_heads(self) -> int:
        kv_heads = self.file.count("attention.head_count_kv", self.heads)
        if self.heads % kv_heads:
            raise self.file.corrupt(
                f"{self.heads} heads cannot share {kv_heads} of keys and values"
            )
        return kv_heads

    @cached_property
    def rotated(self) -> int:
        """How many dimensions of a head are rotated."""
        value_size = self.file.count("attention.value_length", self.head_size)
        if value_size != self.head_size:
            what = f"values of {value_size} dimensions, keys of {self.head_size},"
            raise self.file.unsupported(what, "the same for both")
        rotated = self.file.count("rope.dimension_count", self.head_size)
        whole = rotated == self.head_size
        if self.family.interleaved and not whole:
            raise self.file.unsupported(f"rotating {rotated} of {self.head_size} dimensions", "all")
        multiple = HEAD_SIZE_MULTIPLE if whole else PARTIAL_ROPE_MULTIPLE
        if self.head_size % multiple or rotated % multiple or rotated > self.head_size:
            what = (
                f"a head of {self.head_size} dimensions{'' if whole else f', {rotated} rotated,'}"
            )
            raise self.file.unsupported(what, f"multiples of {multiple}")
        return rotated

    def window(self, context_length: int) -> int:
        """The window in tokens; 0 if it would be no shorter than the context."""
        window = self.file.said("attention.sliding_window", int, 0)
        if window < 0:
            raise self.file.corrupt(f"its sliding window is {window}")
        return window if window < context_length else 0

    def local_rope(self, rope: Rope) -> Rope:
        if not self.family.local_rope:
            return rope
        # Gemma 3 has a base of its own; Olmo 3 has the same, but scales only global layers.
        same = self.file.positive("rope.freq_base", DEFAULT_BASE)
        default = DEFAULT_BASE if self.file.architecture_name == "gemma3" else same
        return unscaled_rope(self.rotated, self.file.positive("rope.freq_base_swa", default))

    @property
    def scales(self) -> Scales:
        positive, not_negative = self.file.positive, self.file.not_negative
        by_width = self.hidden**0.5 if self.family.embedding_by_width else 1.0
        return Scales(
            embedding=positive("embedding_scale", by_width),
            residual=positive("residual_scale", 1.0),
            attention=not_negative("attention.scale", self._default_attention_scale),
            logits=1 / positive("logit_scale", 1.0),
            attention_cap=not_negative("attn_logit_softcapping", 0.0),
            logits_cap=not_negative("final_logit_softcapping", 0.0),
        )

    @property
    def _default_attention_scale(self) -> float:
        if self.layers == GEMMA_27B_LAYERS.get(self.file.architecture_name):
            return float((self.hidden / self.heads) ** -0.5)
        return 0.0


def _check_tensors(file: GgufFile, architecture: Architecture) -> None:
    """Checks that the tensors are those of the architecture, in types and shapes that it knows."""
    family = architecture.family
    layers = [f"blk.{layer}." for layer in range(architecture.layers)]
    needed = {f"{layer}{part}" for layer in layers for part in family.parts}
    needed |= {"token_embd.weight", "output_norm.weight"}
    optional = {f"{layer}{part}" for layer in layers for part in family.optional}
    optional |= {"output.weight", *ROPE_FACTORS}
    for name in sorted(file.tensors.keys() - needed - optional):
        raise file.unsupported(f"tensor {name}", f"those of a plain {file.architecture_name} model")
    for name in sorted(needed - file.tensors.keys()):
        raise file.corrupt(f"it has no tensor {name}")
    shapes = _shapes(architecture)
    for name, tensor in file.tensors.items():
        known = SUPPORTED if len(tensor.shape) > 1 else FLOATS
        if tensor.kind not in known:
            kinds = [kind.name for kind in known]
            raise file.unsupported(f"type {tensor.kind.name} of tensor {name}", kinds)
        part = name.split(".", 2)[-1] if name.startswith("blk.") else name
        if part not in ROPE_FACTORS and tensor.shape != shapes[part]:
            raise file.corrupt(f"tensor {name} is {tensor.shape}, not {shapes[part]}")


def _shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors, outputs before inputs, by their names without the layer."""
    hidden, feed_forward = architecture.hidden, architecture.feed_forward
    queries = architecture.heads * architecture.head_size
    keys = architecture.kv_heads * architecture.head_size
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
