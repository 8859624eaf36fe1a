"""The whole program over the stub of CUDA, with its stages in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu_check import __main__ as program
from bench.gpu_check import numbers, placement, speed, stages, timing
from bench.gpu_check.subject import Measured, Subject
from tests.models.tiny import Tiny, write_tiny

pytestmark = pytest.mark.cuda_stub

# They start services, which other tests do.
PROCESSES = ("refusals", "service")


def run_here(name: str, subject: Subject, patience: float) -> Measured:
    del patience
    return stages.measure(name, subject)


def test_a_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "run", run_here)
    monkeypatch.setattr(program, "end_on_sigterm", lambda: None)
    assert program.main(["--gguf", "/no.gguf"]) == 2
    assert capsys.readouterr().err.endswith("bench: there is no file /no.gguf\n")


def test_it_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Placement and memory are judged; numbers and times are not measured, as its status says."""
    for name in PROCESSES:
        monkeypatch.delitem(stages.STAGES, name)
    for module in (numbers, placement, speed):
        monkeypatch.setattr(module, "CUDA_PRECISIONS", ("float16",))
    monkeypatch.setattr(timing, "WARM_UPS", 0)
    monkeypatch.setattr(timing, "ROUNDS", 1)
    few: dict[str, Any] = {"KERNELS": {"any": "0"}, "SLOTS": 2, "ROWS": (1, 2), "SLICES": (256,)}
    few["apart"] = lambda function, *arguments: function(*arguments)
    for name, value in few.items():
        monkeypatch.setattr(speed, name, value)
    monkeypatch.setattr(program, "run", run_here)
    monkeypatch.setattr(program, "end_on_sigterm", lambda: None)
    gguf, file = write_tiny(tmp_path / "tiny.gguf", Tiny(context=2048)), tmp_path / "found.json"
    assert program.main(["--gguf", str(gguf), "--json", str(file)]) == 3
    verdicts = json.loads(file.read_bytes())["verdicts"]
    passed = [verdict["check"] for verdict in verdicts if verdict["outcome"] == "passed"]
    assert passed == [
        "a GPU that can be used",
        "float16: nodes off the GPU",
        "memory: taken at the start",
        "memory: taken by steps",
        "memory: in use",
    ]
    assert not [verdict for verdict in verdicts if verdict["outcome"] == "failed"]
    printed = capsys.readouterr().out
    assert "Stub, 9.0, CUDA 13.0" in printed
    assert "not measured" in printed
