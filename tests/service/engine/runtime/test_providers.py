from __future__ import annotations

import ctypes
import logging
from typing import Any

import pytest

from rapport.service.engine.runtime import providers
from rapport.service.engine.runtime.providers import CPU, CUDA, ProviderError, choose_provider


def test_auto_takes_cuda_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU, auto decodes on it."""
    monkeypatch.setattr(providers, "cuda_obstacle", lambda: None)
    assert choose_provider("auto") is CUDA
    assert CUDA.session_providers == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_auto_falls_back_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a GPU, auto takes the CPU and says why in one line."""
    monkeypatch.setattr(providers, "cuda_obstacle", lambda: "no GPU was found")
    with caplog.at_level(logging.INFO):
        assert choose_provider("auto") is CPU
    assert [record.getMessage() for record in caplog.records] == [
        "running on the CPU: no GPU was found"
    ]
    assert CPU.session_providers == ["CPUExecutionProvider"]


def test_cuda_that_cannot_run_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for explicitly, CUDA is never silently replaced."""
    monkeypatch.setattr(providers, "cuda_obstacle", lambda: "no GPU was found")
    with pytest.raises(ProviderError, match="no GPU was found"):
        choose_provider("cuda")


def test_cpu_is_taken_without_looking_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for the CPU, nothing of CUDA is touched."""
    monkeypatch.setattr(providers, "cuda_obstacle", lambda: 1 / 0)
    assert choose_provider("cpu") is CPU


@pytest.mark.parametrize(
    ("init", "count", "obstacle"),
    [(0, 1, None), (0, 0, "no GPU was found"), (100, 0, "the NVIDIA driver does not start")],
)
def test_the_driver_is_asked_for_gpus(
    monkeypatch: pytest.MonkeyPatch, init: int, count: int, obstacle: str | None
) -> None:
    """A driver that does not start, or sees no GPU, is told apart from one that does."""

    class Driver:
        def __init__(self, _: str) -> None: ...

        def cuInit(self, _: int) -> int:  # noqa: N802 - the driver's name
            return init

        def cuDeviceGetCount(self, pointer: Any) -> int:  # noqa: N802 - the driver's name
            pointer._obj.value = count
            return 0

    monkeypatch.setattr(ctypes, "CDLL", Driver)
    assert providers.driver_obstacle() == obstacle


def test_a_build_without_cuda_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of ONNX Runtime without the provider is named."""
    monkeypatch.setattr(providers.ort, "get_available_providers", list)
    obstacle = providers.cuda_obstacle()
    assert obstacle == "this build of ONNX Runtime has no CUDA provider"
