"""A machine without memory: a limit on the process, under which ONNX Runtime gets no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, which the limit may not outlive.
PROGRAM = """
import asyncio, re, resource, sys
from pathlib import Path
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import OutOfMemoryError
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.request import GenerationRequest

def limit(spare):
    size = int(re.search(r"VmSize:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    soft = size + spare if spare is not None else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))

async def answer(engine, length):
    async with engine.submit(GenerationRequest(tuple(range(1000, 1000 + length)), 4)) as generation:
        try:
            return sum([len(delta.token_ids) async for delta in generation])
        except OutOfMemoryError:
            return None

async def main():
    engine = Engine.load(Path(sys.argv[1]), CPU, EngineConfig(slots=2, threads=1))
    engine.start(lambda: None)
    short = await answer(engine, 8)
    limit(2**20)
    starved = await answer(engine, 250)
    limit(None)
    print(short, starved, await answer(engine, 250), engine.counters, engine.slot_counters)
    await engine.stop()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_without_memory_a_request_fails_and_the_next_is_answered(cpu_folder: Path) -> None:
    """What ONNX Runtime says then is understood, and what it holds stays usable."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(cpu_folder)],
        capture_output=True,
        text=True,
        timeout=120,
        # Otherwise each thread has a reserve that the limit does not see.
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
        check=False,
    )
    expected = "4 None 4 3 accepted, 2 finished, 0 cancelled, 1 failed 3 taken, 3 released\n"
    assert ran.stdout == expected, ran.stderr
