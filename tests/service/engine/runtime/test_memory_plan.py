from __future__ import annotations

import re

import pytest

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.host import bytes_per_token
from rapport.service.engine.runtime.cuda import DeviceMemory
from rapport.service.engine.runtime.memory_plan import (
    MemoryLimits,
    MemoryPlan,
    plan_memory,
    workspace_bytes,
)
from rapport.service.engine.runtime.providers import ProviderError
from tests.service.engine.fake import fake_spec

GIB = 1 << 30
LARGE = fake_spec().model_copy(
    update={
        "context_length": 131_072,
        "layers": 32,
        "heads": 32,
        "kv_heads": 8,
        "head_size": 128,
        "vocab_size": 128_256,
        "kv_type": "float16",
    }
)
WEIGHTS = 16 * GIB


def plan(spec: ModelSpec, total: int, limits: MemoryLimits, slots: int = 16) -> MemoryPlan:
    return plan_memory(spec, slots, 4096, limits, DeviceMemory(total - WEIGHTS, total))


@pytest.mark.parametrize("total", [24 * GIB, 80 * GIB, 141 * GIB])
@pytest.mark.parametrize("share", [0.8, 0.95])
@pytest.mark.parametrize("kv", [2 * GIB, 300 * GIB])
@pytest.mark.parametrize("prefixes", [0, GIB, 50 * GIB])
def test_the_sum_is_within_what_is_allowed(
    total: int, share: float, kv: int, prefixes: int
) -> None:
    """Weights, slots, prefixes and steps take no more than the share, and no budget is exceeded."""
    planned = plan(LARGE, total, MemoryLimits(kv, prefixes, share))
    token = bytes_per_token(LARGE)
    assert token == 131_072
    slots = 17 * planned.slot_tokens * token
    kept = planned.prefix_slots * planned.slot_tokens * token
    assert slots <= kv
    assert kept <= prefixes
    assert WEIGHTS + slots + kept + workspace_bytes(LARGE, 17, 4096) <= share * total


def test_a_slot_holds_no_more_than_the_context() -> None:
    """Memory that the model's context cannot use is left for prefixes."""
    small = LARGE.model_copy(update={"context_length": 8192})
    planned = plan(small, 80 * GIB, MemoryLimits(40 * GIB, 4 * GIB))
    assert planned == MemoryPlan(8192, 4)


def test_what_does_not_fit_is_refused_with_the_sum() -> None:
    """The error has what is in use, what steps and the smallest slots take, and what is allowed."""
    with pytest.raises(ProviderError) as raised:
        plan(LARGE, 18 * GIB, MemoryLimits(gpu_share=0.9))
    sizes = [float(size) for size in re.findall(r"([0-9.]+) GiB", str(raised.value))]
    used, workspace, slots, allowed, budget = sizes
    assert (used, allowed, budget) == (16, 16.2, 2)
    assert slots == pytest.approx(17 * 256 * 131_072 / GIB, abs=0.01)
    assert used + workspace + slots > allowed


def test_a_budget_for_nobody_is_refused() -> None:
    """Where kv_budget is what is too small, the error names it."""
    with pytest.raises(ProviderError, match="kv_budget"):
        plan(LARGE, 80 * GIB, MemoryLimits(kv_bytes=GIB // 4))
