"""The stages, each of which runs in a process of its own: one that hangs or dies is one alone.

python -m bench.gpu_check.stages NAME SUBJECT FILE
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import orjson
import psutil

from bench.gpu_check import device, graphs, memory, numbers, placement, refusals, service, speed
from bench.gpu_check.subject import Measured, Subject

LOG_LINES = 5


class Stage(NamedTuple):
    """What measures, and how long it may take."""

    measure: Callable[[Subject], Measured]
    limit_s: float


STAGES = {
    "device": Stage(device.measure, 30),
    "placement": Stage(placement.measure, 40),
    "numbers": Stage(numbers.measure, 120),
    "graphs": Stage(graphs.measure, 40),
    "memory": Stage(memory.measure, 30),
    "refusals": Stage(refusals.measure, 40),
    "speed": Stage(speed.measure, 90),
    "service": Stage(service.measure, 90),
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
            _, log = process.communicate(timeout=STAGES[name].limit_s * patience)
        except subprocess.TimeoutExpired:
            return {"error": f"no end after {STAGES[name].limit_s * patience:g} s"}
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


def main(name: str, subject: str, file: str) -> None:
    """Runs a stage in this process."""
    measured = STAGES[name].measure(Subject.from_json(subject))
    Path(file).write_bytes(orjson.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
