"""Divides the memory of a GPU among slots, kept prefixes and the work of a step."""

from __future__ import annotations

from dataclasses import dataclass

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.host import bytes_per_token
from rapport.service.engine.runtime.cuda import DeviceMemory
from rapport.service.engine.runtime.providers import ProviderError
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS

# A slot with fewer tokens is of no use, unless the model has no more.
MIN_SLOT_TOKENS = 256
# What a step needs, estimated: of 16 bits each, up to this many values for each token and hidden
# unit (queries, keys and values, the feed-forward layer and its products); logits in float16 and
# float32, and copies of them while candidates are chosen; workspaces of libraries and graphs.
VALUES_PER_HIDDEN = 32
LOGIT_BYTES = 2 + 4 * 6
BASE_WORKSPACE_BYTES = 96 * 2**20


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """What keys and values may take, in bytes, and the share of a GPU's memory that is used."""

    kv_bytes: int = 2 * 2**30
    prefix_bytes: int = 0
    gpu_share: float = 0.9


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How many tokens a slot holds, and how many slots are for kept prefixes."""

    slot_tokens: int
    prefix_slots: int


def plan_memory(
    spec: ModelSpec, slots: int, slice_tokens: int, limits: MemoryLimits, memory: DeviceMemory
) -> MemoryPlan:
    """Divides what is free once the weights are loaded.

    All slots are of one size: as large as the model's context, or as the memory allows. A spare
    one, and a buffer to move tokens to the host, come on top.

    Raises:
        ProviderError: not even slots of `MIN_SLOT_TOKENS` fit; the text has the sum.
    """
    allowed = round(limits.gpu_share * memory.total)
    used = memory.total - memory.free
    workspace = workspace_bytes(spec, slots + 1, slice_tokens)
    left = allowed - used - workspace
    token = bytes_per_token(spec)
    tokens = min(spec.context_length, min(left, limits.kv_bytes) // ((slots + 1) * token))
    least = min(spec.context_length, MIN_SLOT_TOKENS)
    if tokens < least:
        raise ProviderError(
            f"the GPU's memory is too small: {_size(used)} are in use, {_size(workspace)} are for "
            f"computing, and {slots} slots and a spare one of at least {least} tokens take "
            f"{_size((slots + 1) * least * token)}, of {_size(allowed)} that gpu_memory allows and "
            f"{_size(limits.kv_bytes)} that kv_budget does"
        )
    left -= (slots + 1) * tokens * token
    return MemoryPlan(tokens, max(0, min(left, limits.prefix_bytes) // (tokens * token)))


def workspace_bytes(spec: ModelSpec, rows: int, slice_tokens: int) -> int:
    """Memory that steps of up to `rows` sequences or `slice_tokens` tokens need, in bytes."""
    hidden = spec.heads * spec.head_size
    activations = max(rows, slice_tokens) * hidden * VALUES_PER_HIDDEN * 2
    logits = max(rows, MAX_DRAFT_TOKENS + 1) * spec.vocab_size * LOGIT_BYTES
    return BASE_WORKSPACE_BYTES + activations + logits


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
