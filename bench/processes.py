"""CPU time and memory of the server's processes, and of the bench itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self

import psutil

INTERVAL = 0.25
LENT = re.compile(r"LazyFree:\s+(\d+) kB")
KNOWN_PARTS = ("service", "gateway", "serve")

Parts = dict[str, list[psutil.Process]]
"""Processes by the part of the server to which they belong."""


def started_parts(pid: int) -> Parts:
    """A process and its descendants."""
    root = psutil.Process(pid)
    return _by_part([root, *root.children(recursive=True)])


def listening_parts(ports: Collection[int]) -> Parts:
    """The processes that listen on the ports, and their descendants, as far as they are visible."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS shows them to root alone
        return {}
    pids = {
        connection.pid
        for connection in connections
        if connection.pid and connection.status == psutil.CONN_LISTEN
        if connection.laddr and connection.laddr.port in ports
    }
    found = {pid: psutil.Process(pid) for pid in pids}
    for process in tuple(found.values()):
        found |= {child.pid: child for child in process.children(recursive=True)}
    return _by_part(list(found.values()))


def _by_part(processes: list[psutil.Process]) -> Parts:
    parts: Parts = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            parts.setdefault(part_of(process.cmdline(), process.name()), []).append(process)
    return parts


def part_of(command: list[str], name: str) -> str:
    """The part that a process is, by its command; for other programs, the process's name."""
    words = (argument.rpartition(".")[2] for argument in command)
    return next((word for word in words if word in KNOWN_PARTS), name)


@dataclass(slots=True)
class Resources:
    """CPU time and memory of one part. Resident bytes include pages shared between processes."""

    cpu_seconds: float = 0.0
    cores: float = 0.0
    """CPU seconds per second."""
    rss_peak: int = 0
    rss_end: int = 0


class Watch:
    """Measures what the parts use while the `async with` lasts."""

    def __init__(self, parts: Mapping[str, list[psutil.Process]]) -> None:
        self.resources = {name: Resources() for name in parts}
        self._parts = parts

    async def __aenter__(self) -> Self:
        self._began = perf_counter()
        self._cpu_before = {name: _usage(part)[0] for name, part in self._parts.items()}
        self._sampling = asyncio.create_task(self._sample_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._sampling.cancel()
        self._sample()

    async def _sample_on(self) -> None:
        while True:
            self._sample()
            await asyncio.sleep(INTERVAL)

    def _sample(self) -> None:
        elapsed = perf_counter() - self._began
        for name, part in self._parts.items():
            # For a process that has died, the last values stay.
            with suppress(psutil.NoSuchProcess):
                cpu, rss = _usage(part)
                seen = self.resources[name]
                seen.cpu_seconds = cpu - self._cpu_before[name]
                seen.cores = seen.cpu_seconds / elapsed
                seen.rss_peak = max(seen.rss_peak, rss)
                seen.rss_end = rss


def lazily_freed(process: psutil.Process) -> int:
    """Resident bytes that a process has freed lazily: the kernel may take them at any time."""
    try:
        match = LENT.search(Path(f"/proc/{process.pid}/smaps_rollup").read_text())
    except OSError:  # not on Linux
        return 0
    return 1024 * int(match[1]) if match else 0


def _usage(processes: list[psutil.Process]) -> tuple[float, int]:
    """CPU seconds so far, and resident bytes now."""
    times = [process.cpu_times() for process in processes]
    cpu = sum(time.user + time.system for time in times)
    return cpu, sum(process.memory_info().rss for process in processes)
