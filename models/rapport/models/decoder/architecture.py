"""Reads what a model computes: its dimensions, and what its layers are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rapport.models.decoder.families import FAMILIES, GEMMA_27B_LAYERS, Family
from rapport.models.decoder.rope import DEFAULT_BASE, Rope, read_rope, unscaled_rope
from rapport.models.decoder.source import Source

# The graph has a table of rotary angles with a row for each token of the context.
MAX_CONTEXT_TOKENS = 1 << 20
# GroupQueryAttention needs a head's size to be a multiple of this, and of the second one where only
# a part of the head is rotated.
HEAD_SIZE_MULTIPLE = 8
PARTIAL_ROPE_MULTIPLE = 16
MAX_EXPERTS = 1 << 10
SOFTMAX = 1  # of expert_gating_func


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

    `feed_forward` is the size of one of the `experts`, if there are any; `active_experts` of them
    compute a token. `window` is how many keys a query of a layer with a window sees, its own among
    them; 0: all.
    """

    family: Family
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    experts: int
    active_experts: int
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


def read_architecture(source: Source) -> Architecture:
    """The architecture of a model.

    Raises:
        CorruptFileError: the source contradicts itself.
        UnsupportedModelError: it has something that the graph cannot compute.
    """
    if source.architecture_name not in FAMILIES:
        raise source.unsupported(f"architecture {source.architecture_name}", FAMILIES.keys())
    return _ArchitectureReader(source, FAMILIES[source.architecture_name]).read()


class _ArchitectureReader:
    def __init__(self, source: Source, family: Family) -> None:
        self.source = source
        self.family = family
        self.heads = source.count("attention.head_count")
        self.hidden = source.count("embedding_length")
        self.head_size = source.count("attention.key_length", max(self.hidden // self.heads, 1))
        self.layers = source.count("block_count")
        if self.layers > len(source.tensors):
            raise source.corrupt(f"it has {self.layers} layers and {len(source.tensors)} tensors")

    def read(self) -> Architecture:
        context_length = self.source.count("context_length", maximum=MAX_CONTEXT_TOKENS)
        rope = read_rope(self.source, self.rotated, context_length)
        return Architecture(
            family=self.family,
            layers=self.layers,
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_size=self.head_size,
            feed_forward=self.feed_forward,
            experts=self.experts,
            active_experts=self.active_experts,
            context_length=context_length,
            vocab_size=self.vocab_size,
            epsilon=self.source.positive("attention.layer_norm_rms_epsilon"),
            window=self.window(context_length),
            rope=rope,
            local_rope=self.local_rope(rope),
            scales=self.scales,
        )

    @property
    def vocab_size(self) -> int:
        shape = self.source.tensor("token_embd.weight").shape
        if len(shape) != 2:  # noqa: PLR2004 - a matrix
            raise self.source.corrupt(f"tensor token_embd.weight is {shape}, not a matrix")
        return shape[0]

    @cached_property
    def experts(self) -> int:
        """How many experts there are; 0: it is no mixture of experts."""
        if not (self.family.may_have_experts and self.source.said("expert_count", int, 0)):
            return 0
        self.check_routing()
        return self.source.count("expert_count", maximum=MAX_EXPERTS)

    @property
    def active_experts(self) -> int:
        return self.source.count("expert_used_count", maximum=self.experts) if self.experts else 0

    @property
    def feed_forward(self) -> int:
        if not self.experts:
            return self.source.count("feed_forward_length")
        # Mixtral's files say it as that of a plain model.
        name = "expert_feed_forward_length"
        plain = self.source.said("feed_forward_length", int, 0)
        return self.source.count(name, plain)

    def check_routing(self) -> None:
        """Checks that experts are added up by the softmax of their scores, and are all there is."""
        usual = {
            "expert_gating_func": (int, SOFTMAX),
            "expert_weights_norm": (bool, True),
            "expert_weights_scale": (float, 1.0),
            "expert_shared_count": (int, 0),
        }
        for key, (kind, value) in usual.items():
            said = self.source.said(key, kind, value)
            if said != value:
                raise self.source.unsupported(f"{self.source.name_of(key)} {said}", str(value))

    @property
    def kv_heads(self) -> int:
        kv_heads = self.source.count("attention.head_count_kv", self.heads)
        if self.heads % kv_heads:
            raise self.source.corrupt(
                f"{self.heads} heads cannot share {kv_heads} of keys and values"
            )
        return kv_heads

    @cached_property
    def rotated(self) -> int:
        """How many dimensions of a head are rotated."""
        value_size = self.source.count("attention.value_length", self.head_size)
        if value_size != self.head_size:
            what = f"values of {value_size} dimensions, keys of {self.head_size},"
            raise self.source.unsupported(what, "the same for both")
        rotated = self.source.count("rope.dimension_count", self.head_size)
        whole = rotated == self.head_size
        if self.family.interleaved and not whole:
            raise self.source.unsupported(
                f"rotating {rotated} of {self.head_size} dimensions", "all"
            )
        multiple = HEAD_SIZE_MULTIPLE if whole else PARTIAL_ROPE_MULTIPLE
        if self.head_size % multiple or rotated % multiple or rotated > self.head_size:
            what = (
                f"a head of {self.head_size} dimensions{'' if whole else f', {rotated} rotated,'}"
            )
            raise self.source.unsupported(what, f"multiples of {multiple}")
        return rotated

    def window(self, context_length: int) -> int:
        """The window in tokens; 0 if it would be no shorter than the context."""
        window = self.source.said("attention.sliding_window", int, 0)
        if window < 0:
            raise self.source.corrupt(f"its sliding window is {window}")
        return window if window < context_length else 0

    def local_rope(self, rope: Rope) -> Rope:
        if not self.family.local_rope:
            return rope
        # Gemma 3 has a base of its own; Olmo 3 has the same, but scales only global layers.
        same = self.source.positive("rope.freq_base", DEFAULT_BASE)
        default = DEFAULT_BASE if self.source.architecture_name == "gemma3" else same
        return unscaled_rope(self.rotated, self.source.positive("rope.freq_base_swa", default))

    @property
    def scales(self) -> Scales:
        positive, not_negative = self.source.positive, self.source.not_negative
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
        if self.layers == GEMMA_27B_LAYERS.get(self.source.architecture_name):
            return float((self.hidden / self.heads) ** -0.5)
        return 0.0
