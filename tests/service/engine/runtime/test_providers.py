from __future__ import annotations

import ctypes
import logging
import subprocess
import sys

import onnxruntime
import pytest

from rapport.service.engine.runtime import cuda, providers
from rapport.service.engine.runtime.providers import CPU, CUDA, ProviderError, choose_provider


def test_auto_takes_cuda_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU, auto decodes on it."""
    monkeypatch.setattr(providers, "cuda_obstacles", lambda _: [])
    assert choose_provider("auto") == CUDA
    names = [name for name, _ in CUDA.session_providers]
    assert names == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_the_device_is_the_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is looked for, and reaches ONNX Runtime."""
    monkeypatch.setattr(providers, "cuda_obstacles", lambda device_id: [] if device_id else ["no"])
    provider = choose_provider("cuda", device_id=3)
    assert provider.device == ("cuda", 3)
    (_, options), _ = provider.session_providers
    assert options["device_id"] == "3"


def test_auto_falls_back_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a GPU, auto takes the CPU and says why in one line."""
    monkeypatch.setattr(providers, "cuda_obstacles", lambda _: ["no GPU was found"])
    with caplog.at_level(logging.INFO):
        assert choose_provider("auto") is CPU
    assert [record.getMessage() for record in caplog.records] == [
        "running on the CPU: no GPU was found"
    ]
    assert CPU.session_providers == [("CPUExecutionProvider", {})]


def test_cuda_that_cannot_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for explicitly, CUDA is never silently replaced."""
    monkeypatch.setattr(providers, "cuda_obstacles", lambda _: ["no GPU was found"])
    with pytest.raises(ProviderError, match=r"^provider cuda cannot run here: no GPU was found$"):
        choose_provider("cuda")


def test_each_reason_has_its_own_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where several things are missing, all of them are reported, a line each."""
    monkeypatch.setattr(providers, "cuda_obstacles", lambda _: ["one is old", "two is missing"])
    with pytest.raises(ProviderError, match="for 2 reasons"):
        choose_provider("cuda")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["provider cuda: one is old", "provider cuda: two is missing"]


def test_cpu_is_taken_without_looking_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for the CPU, nothing of CUDA is touched."""
    monkeypatch.setattr(providers, "cuda_obstacles", lambda _: 1 / 0)
    assert choose_provider("cpu") is CPU


def test_a_build_without_cuda_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of ONNX Runtime without the provider is named, where there is a driver."""
    monkeypatch.setattr(cuda, "_open_driver", lambda: (None, 1))
    monkeypatch.setattr(onnxruntime, "get_available_providers", list)
    assert cuda.cuda_obstacles() == ["this build of ONNX Runtime has no CUDA provider"]


def test_who_asks_for_a_gpu_has_no_runtime_in_memory() -> None:
    """The supervisor asks, and runs no model: ONNX Runtime and NumPy would be a third of it."""
    program = "import sys, rapport.cli.serve; print({'onnxruntime', 'numpy'} & {*sys.modules})"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_machine_without_a_driver_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is looked for by its name."""

    def missing(_: str) -> None:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert cuda.cuda_obstacles() == ["no NVIDIA driver was found"]
