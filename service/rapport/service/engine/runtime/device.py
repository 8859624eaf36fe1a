"""Memory of a GPU and runs on it, by way of ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import onnxruntime as ort

from rapport.service.engine.runtime.providers import CUDA_PROVIDER, Provider

log = logging.getLogger(__name__)

# The errors of CUDA after which a process can do nothing more on its device, in the words of
# cudaGetErrorString, which ONNX Runtime passes on in different forms.
STICKY_ERRORS = (
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected",
    "an illegal memory access was encountered",
    "the launch timed out and was terminated",
    "context is destroyed",
    "device-side assert triggered",
    "hardware stack error",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
)
# The run option that names the graph to capture or to replay, and its value for a run without one.
GRAPH_ID = "gpu_graph_id"
NO_GRAPH = -1
# Arenas grow by what is asked for, not to the next power of two; -1 is the default of the rest.
_ARENA = {
    "arena_extend_strategy": 1,
    "max_mem": 0,
    "initial_chunk_size_bytes": -1,
    "max_dead_bytes_per_chunk": -1,
}


class DeviceLostError(BaseException):
    """The device does no more work for this process.

    It is no `Exception`, so that no step catches it: it ends the engine's thread.
    """


@contextmanager
def device_errors() -> Iterator[None]:
    """Tells errors that the device does not recover from apart from others.

    Raises:
        DeviceLostError: instead of such an error.
    """
    try:
        yield
    except Exception as error:
        if any(text in str(error) for text in STICKY_ERRORS):
            log.critical("the GPU is lost: %s", error)
            raise DeviceLostError(str(error)) from error
        raise


def run_on_device(
    session: ort.InferenceSession, binding: ort.IOBinding, options: ort.RunOptions
) -> None:
    """Runs a session, and waits until the device is done.

    Raises:
        DeviceLostError: the device failed in a way that it does not recover from.
    """
    with device_errors():
        session.run_with_iobinding(binding, options)


def run_options(graph: int = NO_GRAPH) -> ort.RunOptions:
    """The options of runs that capture the graph of this number, then replay it."""
    options = ort.RunOptions()
    options.add_run_config_entry(GRAPH_ID, str(graph))
    return options


def device_zeros(shape: Sequence[int], type_: type, provider: Provider) -> ort.OrtValue:
    """Zeros in the device's memory. In tests, the CPU provider may be the device."""
    if provider.name == "cuda":
        _use_exact_arena(provider.device_id)
    value = ort.OrtValue.ortvalue_from_shape_and_type(shape, type_, *provider.device)
    # What the memory held before may be NaN, which attention would spread even with weight zero.
    value.update_inplace(np.zeros(shape, type_))
    return value


@cache
def _use_exact_arena(device_id: int) -> None:
    """Has values take as much of the device's memory as they need."""
    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    info = ort.OrtMemoryInfo("Cuda", kind, device_id, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator_v2(CUDA_PROVIDER, info, {}, ort.OrtArenaCfg(_ARENA))
