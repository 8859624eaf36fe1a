"""Readies a session on a GPU: slots in its memory, and graphs of its steps."""

from __future__ import annotations

import logging

import onnxruntime as ort

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.device import DeviceKeyValues
from rapport.service.engine.pace import GPU_PACE
from rapport.service.engine.runtime.cuda import device_memory
from rapport.service.engine.runtime.device import DeviceLostError
from rapport.service.engine.runtime.device_runner import DeviceRunner
from rapport.service.engine.runtime.memory_plan import MemoryLimits, plan_memory
from rapport.service.engine.runtime.providers import Provider, ProviderError

log = logging.getLogger(__name__)


def load_device_runner(
    session: ort.InferenceSession,
    spec: ModelSpec,
    provider: Provider,
    slots: int,
    *,
    limits: MemoryLimits,
    prefill_session: ort.InferenceSession | None = None,
) -> DeviceRunner:
    """Takes the memory that a session's slots need, and captures its decode steps.

    Raises:
        ProviderError: the device has too little memory, or fails.
    """
    try:
        key_values = _slots_on_device(spec, provider, slots, limits)
        runner = DeviceRunner(session, key_values, provider, prefill_session)
        runner.capture()
    except (DeviceLostError, RuntimeError) as error:  # the latter is ONNX Runtime's own
        raise ProviderError(f"provider cuda cannot run here: {error}") from error
    return runner


def _slots_on_device(
    spec: ModelSpec, provider: Provider, slots: int, limits: MemoryLimits
) -> DeviceKeyValues:
    memory = device_memory(provider.device_id)
    plan = plan_memory(spec, slots, GPU_PACE.slice_tokens, limits, memory)
    log.info(
        "GPU memory: %d slots of %d tokens, and %d for kept prefixes",
        slots,
        plan.slot_tokens,
        plan.prefix_slots,
    )
    return DeviceKeyValues(spec, slots, plan.slot_tokens, provider, plan.prefix_slots)
