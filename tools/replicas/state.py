"""The folder of replicas: their ports, processes and logs, for `up`, `down` and people."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from bench.server import free_ports
from rapport.cli.supervisor import Part


class NotRunningError(Exception):
    """There are no replicas in the folder."""


class RunningError(Exception):
    """There are replicas in the folder already."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens. Those of services and gateways are in their order."""

    rest: int
    grpc: int
    admin: int
    services: Sequence[int]
    service_metrics: Sequence[int]
    gateways: Sequence[int]
    gateway_metrics: Sequence[int]

    @classmethod
    def choose(cls, rest: int, grpc: int, replicas: int, gateways: int) -> Ports:
        """Envoy's two as they are given, free ones for all others."""
        free = iter(free_ports(1 + 2 * replicas + 2 * gateways))
        counts = (replicas, replicas, gateways, gateways)
        return cls(rest, grpc, next(free), *([*islice(free, count)] for count in counts))


class State:
    """The files of the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.logs = self.folder / "logs"
        self.config = self.folder / "envoy.yaml"
        self.restarting = self.folder / "restarting"
        """There while a rolling restart goes on."""
        self._lock = self.folder / "lock"
        self._ports = self.folder / "ports.json"
        self._parts = self.folder / "parts.json"

    @contextmanager
    def held(self, pid: int) -> Iterator[None]:
        """Holds the folder for the process `pid`.

        Raises:
            RunningError: another process does.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunningError(f"{self.folder} has running replicas") from None
            lock.truncate(0)
            lock.write(str(pid))
            lock.flush()
            try:
                yield
            finally:
                for file in (self._ports, self._parts, self.restarting):
                    file.unlink(missing_ok=True)

    def pid(self) -> int:
        """The process that runs the replicas.

        Raises:
            NotRunningError: there is none.
        """
        try:
            with self._lock.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(self._lock.read_text())
        except FileNotFoundError:
            pass
        raise NotRunningError(f"{self.folder} has no running replicas")

    def write_ports(self, ports: Ports) -> None:
        _replace(self._ports, asdict(ports))

    def ports(self) -> Ports | None:
        """None until they are chosen."""
        return Ports(**json.loads(self._ports.read_text())) if self._ports.exists() else None

    def write_parts(self, parts: Sequence[Part]) -> None:
        """Notes the process of each part, None for one that has ended."""
        running = {part.name: part.process.pid if part.process else None for part in parts}
        _replace(self._parts, running)

    def parts(self) -> dict[str, int]:
        """The processes by the names of the parts."""
        found: dict[str, int] = json.loads(self._parts.read_text())
        return found


def _replace(path: Path, content: object) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content, indent=2))
    fresh.replace(path)
