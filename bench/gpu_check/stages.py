"""The stages, each of which runs in a process of its own: one that hangs or dies is one alone.

python -m bench.gpu_check.stages NAME SUBJECT FILE
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import orjson
import psutil

from bench.gpu_check.subject import Measured, Subject

# In the environment of a stage, and so of all that it starts: its own mark.
MARK = "GPU_CHECK_STAGE"
LOG_LINES = 5
# How long each may take, in seconds. Each is a module with a function `measure`.
STAGES: dict[str, float] = {
    "device": 30,
    "placement": 40,
    "numbers": 120,
    "graphs": 40,
    "memory": 30,
    "refusals": 40,
    "speed": 90,
    "service": 90,
}


def run(name: str, subject: Subject, patience: float) -> Measured:
    """What a stage measures, or `error`: why it came to no end. Its limit is for patience 1."""
    mark = uuid4().hex
    with TemporaryDirectory() as folder:
        file, log = Path(folder) / "measured.json", Path(folder) / "log"
        command = [sys.executable, "-m", __name__, name, subject.to_json(), str(file)]
        with log.open("wb") as errors:  # a pipe would be open for as long as any child has it
            process = subprocess.Popen(
                command,
                env=os.environ | {MARK: mark},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            status = process.wait(STAGES[name] * patience)
        except subprocess.TimeoutExpired:
            return {"error": f"no end after {STAGES[name] * patience:g} s"}
        finally:
            _end(mark)
            process.wait()
        if status:
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            return {"error": "\n".join([f"status {status}", *lines])}
        measured: Measured = orjson.loads(file.read_bytes())
        return measured


def _end(mark: str) -> None:
    """Ends a stage and all that it has started, also where what had started that is gone."""
    while marked := [each for each in psutil.process_iter() if _mark(each) == mark]:
        for each in marked:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except psutil.Error:  # it has ended, or is another user's
        return None


def measure(name: str, subject: Subject) -> Measured:
    """What a stage measures in this process."""
    stage = import_module(f"bench.gpu_check.{name}")
    measured: Measured = stage.measure(subject)
    return measured


def main(name: str, subject: str, file: str) -> None:
    """Runs a stage in this process."""
    Path(file).write_bytes(orjson.dumps(measure(name, Subject.from_json(subject))))


if __name__ == "__main__":
    main(*sys.argv[1:])
