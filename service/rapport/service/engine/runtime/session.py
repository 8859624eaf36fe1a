"""Opens graphs with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from rapport.service.engine.runtime.providers import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    Provider,
    ProviderError,
)

# The least that ONNX Runtime logs: errors are raised too, and would break a JSON log.
FATAL = 4


def open_session(
    graph: Path | bytes, provider: Provider, threads: int = 0, *, captures: bool = False
) -> ort.InferenceSession:
    """Opens a graph.

    Args:
        graph: a file, or the graph serialised.
        provider: where to run.
        threads: how many to compute with on the CPU; 0 means one for each core.
        captures: whether runs on a GPU are captured as CUDA graphs, unless their options forbid it.

    Raises:
        ProviderError: the provider does not run the graph.
    """
    on_cpu = provider.name == "cpu"
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads if on_cpu else 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = FATAL
    options.enable_mem_pattern = False  # shapes change from step to step
    # Threads that spin while they wait would take CPU time that gRPC and the gateway need.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if on_cpu:
        return ort.InferenceSession(graph, options, providers=provider.session_providers)
    ort.set_default_logger_severity(FATAL)  # it warns that the provider is no plug-in
    # Weights take as much of the device's memory as they have.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    providers = provider.session_providers
    if captures:
        providers[0] = (CUDA_PROVIDER, providers[0][1] | {"enable_cuda_graph": "1"})
    try:
        # A fallback would be announced on stdout, and nowhere else.
        session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as error:
        raise ProviderError(f"provider cuda cannot run here: {_first_line(error)}") from error
    if session.get_providers()[0] == CPU_PROVIDER:
        raise ProviderError("provider cuda cannot run here: ONNX Runtime fell back to the CPU")
    return session


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
