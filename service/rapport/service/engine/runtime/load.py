"""Opens a model folder on the provider that it is to run on."""

from __future__ import annotations

from pathlib import Path

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.host import HostKeyValues
from rapport.service.engine.runtime.memory_plan import MemoryLimits
from rapport.service.engine.runtime.providers import Provider, ProviderError
from rapport.service.engine.runtime.runner import OnnxRunner, Runner
from rapport.service.engine.runtime.session import open_session

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
    # What only a GPU needs, such as onnx, which makes small graphs, takes a fifth of a second.
    from rapport.service.engine.runtime.load_device import load_device_runner  # noqa: PLC0415

    limits = limits or MemoryLimits()
    return load_device_runner(
        session, spec, provider, slots, limits=limits, prefill_session=prefill_session
    )


def _check_compatible(spec: ModelSpec, other: ModelSpec) -> None:
    """Raises ValueError unless both models can share keys and values."""
    may_differ = {"precision", "created", "source", "sizes", "sha256"}
    one, two = (each.model_dump(exclude=may_differ) for each in (spec, other))
    if one != two or spec.source.get("gguf_sha256") != other.source.get("gguf_sha256"):
        raise ValueError(
            f"{other.id} ({other.precision}) cannot compute the prompts of "
            f"{spec.id} ({spec.precision}): their keys and values differ"
        )
