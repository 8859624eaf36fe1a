"""Opening a graph: a provider that was asked for is the one that runs it."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from rapport.service.engine.runtime.providers import CPU, CPU_PROVIDER, CUDA, ProviderError
from rapport.service.engine.runtime.session import open_session
from rapport.service.engine.sampling.candidate_graph import row_graph


def test_a_session_that_fell_back_to_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime may go on there without an error; memory of a GPU would then be bound to it."""
    on_cpu = open_session(row_graph(8), CPU)
    assert on_cpu.get_providers() == [CPU_PROVIDER]
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: on_cpu)
    with pytest.raises(ProviderError, match="ONNX Runtime fell back to the CPU"):
        open_session(row_graph(8), CUDA)
