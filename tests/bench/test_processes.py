from __future__ import annotations

import mmap
import socket
import sys
import time

import psutil
import pytest

from bench.processes import Watch, lazily_freed, listening_parts, part_of


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (["/venv/bin/python", "-m", "rapport.service", "--slots", "4"], "service"),
        (["/venv/bin/python", "-m", "rapport.gateway"], "gateway"),
        (["/venv/bin/python", "/venv/bin/rapport", "gateway"], "gateway"),
        (["/venv/bin/python", "/venv/bin/rapport", "serve"], "serve"),
        (["/venv/bin/python", "-m", "rapport.cli.serve"], "serve"),
        (["llama-server", "--model", "m.gguf"], "rapport"),
    ],
)
def test_parts_are_told_by_their_command(command: list[str], part: str) -> None:
    """Service and gateway are known however they were started; others go by their name."""
    assert part_of(command, "rapport") == part


def test_a_running_server_is_found_by_its_port() -> None:
    """The process that listens on the target's port is the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        parts = listening_parts({listener.getsockname()[1]})
    assert psutil.Process().pid in {process.pid for part in parts.values() for process in part}


async def test_watch_sees_cpu_and_memory() -> None:
    """Work done under watch shows as CPU seconds, and a large block as memory."""
    async with Watch({"me": [psutil.Process()]}) as watch:
        block = b"x" * (64 << 20)
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
    used = watch.resources["me"]
    assert used.cpu_seconds >= 0.15
    assert 0 < used.cores < 4
    assert used.rss_peak >= used.rss_end > len(block)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_lent_to_the_kernel_is_told() -> None:
    """Pages that were written and freed lazily count as resident, and as lazily freed."""
    ours, size = psutil.Process(), 32 << 20
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(b"x" * size)
    before = lazily_freed(ours)
    memory.madvise(mmap.MADV_FREE)
    assert lazily_freed(ours) - before == pytest.approx(size, rel=0.05)
    memory.close()
