"""Service and gateway as two processes, with a model that takes no time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.instant import STEP
from bench.server import Server, free_ports

STOP_LIMIT = 30
ACCOUNT = re.compile(
    r"requests: (\d+) accepted, (\d+) finished, (\d+) cancelled, (\d+) failed; "
    r"slots: (\d+) taken, (\d+) released"
)


@dataclass(frozen=True)
class Instant:
    """Where the two answer, their processes, and what the service says."""

    rest: str
    grpc: str
    service: psutil.Process
    gateway: psutil.Process
    log: Path

    def resident(self) -> dict[str, int]:
        """Memory of both, in bytes."""
        parts = {"service": self.service, "gateway": self.gateway}
        return {name: process.memory_info().rss for name, process in parts.items()}

    def files(self) -> dict[str, int]:
        return {"service": self.service.num_fds(), "gateway": self.gateway.num_fds()}

    def account(self) -> tuple[int, int, int, int]:
        """Requests accepted, finished, cancelled and failed, once it has ended: they are even."""
        text = self.log.read_text()
        assert "Traceback" not in text, text[-5000:]
        found = ACCOUNT.search(text)
        assert found is not None, text[-5000:]
        accepted, finished, cancelled, failed, taken, released = map(int, found.groups())
        assert accepted == finished + cancelled + failed
        assert taken == released
        return accepted, finished, cancelled, failed


Serve = Callable[..., AbstractContextManager[Instant]]


@pytest.fixture
def serve(cpu_folder: Path, tmp_path: Path) -> Serve:
    """Starts both with settings by their names; a step takes `step` seconds."""

    @contextmanager
    def started(step: float = 0, **settings: object) -> Iterator[Instant]:
        grpc_port, http_port = free_ports(2)
        given = {
            "grpc_port": grpc_port,
            "http_port": http_port,
            "model_folder": cpu_folder,
            "kv_budget": "1TiB",  # no key and no value is ever kept
            "max_ttft": 0,
        }
        named = {f"RAPPORT_{name.upper()}": str(each) for name, each in (given | settings).items()}
        environment = os.environ | named | {STEP: str(step)}
        rest, log = f"http://127.0.0.1:{http_port}", tmp_path / "service.log"
        with log.open("w") as out:
            command = [sys.executable, "-m", "bench.instant"]
            service = subprocess.Popen(command, env=environment, stderr=out)
        try:
            gateway = Server(
                [sys.executable, "-m", "rapport.gateway"], environment, f"{rest}/health"
            )
            with gateway:
                parts = psutil.Process(service.pid), psutil.Process(gateway.pid)
                yield Instant(rest, f"127.0.0.1:{grpc_port}", *parts, log)
            service.terminate()
            service.wait(STOP_LIMIT)
        finally:
            service.kill()
            service.wait()
        assert "Traceback" not in gateway.last_words

    return started
