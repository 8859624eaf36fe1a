"""A stage is a process of its own, whose end is bounded."""

from __future__ import annotations

import pytest

from bench.gpu_check import stages
from bench.gpu_check.device import measure
from bench.gpu_check.stages import run
from bench.gpu_check.subject import Subject


def test_what_a_stage_found_comes_back() -> None:
    """Here, where there is no GPU or one of the machine's own: what this process finds too."""
    assert run("device", Subject({}), 10) == measure(Subject({}))


def test_a_stage_that_fails_says_why() -> None:
    found = run("placement", Subject({}), 10)
    assert found["error"].startswith("status 1\n")
    assert "KeyError: 'float16'" in found["error"]


def test_a_stage_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stages.STAGES, "device", 0.001)
    assert run("device", Subject({}), 1) == {"error": "no end after 0.001 s"}
