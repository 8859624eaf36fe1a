"""The stages, each of which runs in a process of its own: one that hangs or dies is one alone.

python -m bench.gpu_check.stages NAME SUBJECT FILE
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import psutil

from bench.gpu_check.subject import Measured, Subject

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
    with TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        command = [sys.executable, "-m", __name__, name, subject.to_json(), str(file)]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            _, log = process.communicate(timeout=STAGES[name] * patience)
        except subprocess.TimeoutExpired:
            return {"error": f"no end after {STAGES[name] * patience:g} s"}
        finally:
            _end(process)
        if process.returncode:
            lines = log.splitlines()[-LOG_LINES:]
            return {"error": "\n".join([f"status {process.returncode}", *lines])}
        measured: Measured = orjson.loads(file.read_bytes())
        return measured


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a stage and all that it has started, if it has not ended."""
    if process.poll() is None:
        program = psutil.Process(process.pid)
        for each in [program, *program.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()


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
