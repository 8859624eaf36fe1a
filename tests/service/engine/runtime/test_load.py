"""Opening a model on a GPU over a stub of CUDA: what it takes, and where it falls back."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import pytest

from rapport.common.model_spec import ModelSpec
from rapport.models.onnx.precision import CUDA_PRECISIONS
from rapport.service.config import ServiceSettings
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.runtime import memory_plan
from rapport.service.engine.runtime.cuda import device_memory
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.memory_plan import MemoryLimits
from rapport.service.engine.runtime.providers import (
    CPU,
    CUDA,
    Provider,
    ProviderError,
    choose_provider,
)
from rapport.service.process import _engine_config, _load_engine
from tests.service.engine.fake import byte_vocabulary
from tests.support.cuda_stub import stub
from tests.support.tiny_model import tiny_folder

pytestmark = pytest.mark.cuda_stub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    choose_provider("cuda")
    return tiny_folder(tmp_path_factory.mktemp("models"))


def test_the_memory_that_is_taken_stays_within_the_plan(folder: Path) -> None:
    """Weights, slots and the work of all steps fit what is planned, which is all that is taken."""
    before = stub.counters().used_bytes
    limits = MemoryLimits(kv_bytes=64 << 20, gpu_share=0.5)
    runner = load_runner(folder, ModelSpec.read(folder), CUDA, 16, 0, limits=limits)
    taken = stub.counters().used_bytes - before
    slots = 17 * 128 * 2 * 2 * 2 * 16 * 2
    assert taken < slots + (32 << 20)
    runner.prefill(0, [1] * 100, 0)
    runner.decode([1] * 16, [1] * 16)
    assert stub.counters().used_bytes - before == taken


@pytest.mark.parametrize("precision", CUDA_PRECISIONS)
def test_every_precision_for_a_gpu_runs(tmp_path: Path, precision: str) -> None:
    """Prompts, decode steps and drafts; a slot goes to the host and back as it is."""
    choose_provider("cuda")
    folder = tiny_folder(tmp_path, precision)
    runner = load_runner(folder, ModelSpec.read(folder), CUDA, 2, 0)
    runner.prefill(0, [1, 2, 3], 0)
    runner.decode([4, 5], [3, 0])
    runner.verify(0, [6, 7], 4)
    assert runner.memory is not None
    bits = runner.memory.read(0, 0, 6)
    bits[:] = 1
    runner.memory.write(1, 0, bits, 6)
    assert (runner.memory.read(1, 0, 6) == bits).all()


def test_the_cpu_has_no_bfloat16(tmp_path: Path) -> None:
    """It is refused before ONNX Runtime says so in its own words."""
    folder = tiny_folder(tmp_path, "bfloat16")
    with pytest.raises(ProviderError, match=r"tiny \(bfloat16\) runs on a GPU only"):
        load_runner(folder, ModelSpec.read(folder), CPU, 2, 0)


def test_a_budget_bounds_what_a_slot_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots share the budget evenly; a request that needs more than one of them is too long."""
    monkeypatch.setattr(memory_plan, "MIN_SLOT_TOKENS", 16)
    token = 2 * 2 * 2 * 16 * 2
    limits = MemoryLimits(kv_bytes=5 * 50 * token)
    runner = load_runner(folder, ModelSpec.read(folder), CUDA, 4, 0, limits=limits)
    assert runner.slot_tokens == 50
    engine = Engine(runner, ModelSpec.read(folder), byte_vocabulary(), EngineConfig(slots=4))
    assert engine.context_length == 50


def test_a_device_that_is_too_small_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is taken that the device does not have: the error names all that is wanted."""
    monkeypatch.setenv("CUDA_STUB_MEMORY", str(64 << 20))
    with pytest.raises(ProviderError, match=r"memory is too small: .* in use, .* for computing"):
        load_runner(folder, ModelSpec.read(folder), CUDA, 4, 0)


def test_only_the_device_that_was_chosen_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, slots and the work of steps are on it; on the other one is nothing."""
    monkeypatch.setenv("CUDA_STUB_DEVICES", "2")
    gc.collect()  # runners of other tests
    before = [device_memory(device).free for device in (0, 1)]
    limits = MemoryLimits(kv_bytes=64 << 20)
    runner = load_runner(folder, ModelSpec.read(folder), Provider("cuda", 1), 4, 0, limits=limits)
    runner.prefill(0, [1] * 100, 0)
    runner.decode([1] * 4, [1] * 4)
    runner.copy(0, 1, 50)
    after = [device_memory(device).free for device in (0, 1)]
    assert after[0] >= before[0]
    assert after[1] < before[1]


def test_a_session_that_cannot_be_opened_is_no_fallback(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where ONNX Runtime would announce the CPU on stdout and go on there, an error says why."""
    with pytest.raises(ProviderError, match=r"provider cuda cannot run here: .*Invalid device ID"):
        load_runner(folder, ModelSpec.read(folder), Provider("cuda", 7), 4, 0)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ("launch:700@1", "illegal memory access"),
        ("capture:719@2", "launch failure"),
        ("malloc:2@1", "out of memory"),
    ],
)
def test_a_device_that_fails_at_the_start_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str, reason: str
) -> None:
    """While graphs are captured and memory is taken, each failure is an error that says why."""
    stub.reset()
    spec = ModelSpec.read(folder)
    limits = MemoryLimits(kv_bytes=64 << 20)
    monkeypatch.setenv("CUDA_STUB_FAIL", failing)
    with pytest.raises(ProviderError, match=f"provider cuda cannot run here: .*{reason}"):
        load_runner(folder, spec, CUDA, 40, 0, limits=limits)
    stub.reset()


def test_auto_goes_on_with_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A device whose memory is too small is no reason not to serve; asked for, it is."""
    monkeypatch.setenv("CUDA_STUB_MEMORY", str(64 << 20))
    settings = ServiceSettings(model_folder=folder, provider="auto", slots=2)
    with caplog.at_level(logging.WARNING):
        provider, engine = _load_engine(folder, settings, _engine_config(settings))
    assert (provider.name, engine.provider) == ("cpu", "cpu")
    (record,) = caplog.records
    assert record.getMessage().startswith("running on the CPU: the GPU's memory is too small")
    with pytest.raises(ProviderError):
        _load_engine(
            folder, settings.model_copy(update={"provider": "cuda"}), _engine_config(settings)
        )
