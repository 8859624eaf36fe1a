"""Opens a model folder on the provider that it is to run on."""

from __future__ import annotations

import logging
from pathlib import Path

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.device import DeviceKeyValues
from rapport.service.engine.kv.host import HostKeyValues
from rapport.service.engine.pace import GPU_PACE
from rapport.service.engine.runtime.cuda import device_memory
from rapport.service.engine.runtime.device import DeviceLostError
from rapport.service.engine.runtime.device_runner import DeviceRunner
from rapport.service.engine.runtime.memory_plan import MemoryLimits, plan_memory
from rapport.service.engine.runtime.providers import Provider, ProviderError
from rapport.service.engine.runtime.runner import OnnxRunner, Runner
from rapport.service.engine.runtime.session import open_session

log = logging.getLogger(__name__)

GRAPH_FILE = "model.onnx"


def load_runner(
    folder: Path,
    spec: ModelSpec,
    provider: Provider,
    slots: int,
    threads: int,
    *,
    prefill_folder: Path | None = None,
    limits: MemoryLimits | None = None,
) -> Runner:
    """Opens the graph of a model folder. Takes seconds.

    Args:
        folder: the model folder.
        spec: its `model.json`.
        provider: where to run.
        slots: how many sequences can run at once.
        threads: how many to compute with; 0 means one for each core.
        prefill_folder: the same model with other weights, for prompts.
        limits: what keys and values may take of a GPU's memory.

    Raises:
        ProviderError: the provider does not run the graph, or the device has too little memory for
            it, or fails.
        ValueError: the two models cannot share keys and values.
    """
    if provider.name == "cpu" and spec.kv_type == "bfloat16":
        raise ProviderError(f"{spec.id} ({spec.precision}) runs on a GPU only")
    prefill_session = None
    if prefill_folder is not None:
        _check_compatible(spec, ModelSpec.read(prefill_folder))
        prefill_session = open_session(prefill_folder / GRAPH_FILE, provider, threads)
    session = open_session(folder / GRAPH_FILE, provider, threads, captures=True)
    if provider.name == "cpu":
        return OnnxRunner(session, HostKeyValues(spec, slots), prefill_session)
    try:
        key_values = _slots_on_device(spec, provider, slots, limits or MemoryLimits())
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


def _check_compatible(spec: ModelSpec, other: ModelSpec) -> None:
    """Raises ValueError unless both models can share keys and values."""
    may_differ = {"precision", "created", "source", "sizes", "sha256"}
    one, two = (each.model_dump(exclude=may_differ) for each in (spec, other))
    if one != two or spec.source.get("gguf_sha256") != other.source.get("gguf_sha256"):
        raise ValueError(
            f"{other.id} ({other.precision}) cannot compute the prompts of "
            f"{spec.id} ({spec.precision}): their keys and values differ"
        )
