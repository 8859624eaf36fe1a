"""A stage is a process of its own, whose end is bounded."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil
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


@pytest.mark.parametrize("last", ["exit 1", "kill -9 $$", "exec sleep 1000"])
def test_what_a_stage_has_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """Whether it fails, dies or hangs, and though what it started has a session of its own."""
    pid, program = tmp_path / "pid", tmp_path / "stage"
    program.write_text(
        f"#!/bin/sh\nsetsid sh -c 'echo $$ >{pid}.new; mv {pid}.new {pid}; exec sleep 1000' &\n"
        f"until [ -e {pid} ]; do sleep 0.01; done\n{last}\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setitem(stages.STAGES, "device", 1 if "exec" in last else 60)
    while not pid.exists():  # a machine that is busy may need longer to start it
        found = run("device", Subject({}), 1)
    assert "error" in found
    assert ended(int(pid.read_text()))


def ended(pid: int) -> bool:
    """Whether a process has ended, though nobody may have noticed."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(20)
    return not psutil.pid_exists(pid)


def test_a_stage_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stages.STAGES, "device", 0.001)
    assert run("device", Subject({}), 1) == {"error": "no end after 0.001 s"}
