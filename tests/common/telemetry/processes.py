"""Service and gateway as real processes that log to files, with faults that a request asks for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.server import free_ports
from tests.plain_http import NO_CERTIFICATES

ROOT = Path(__file__).parents[3]
WAIT = 60.0

# Each fails with all that it knows of the request.
SERVICE = """
import sys
from rapport.service.__main__ import main
from rapport.service.rpc.chat_service import ChatService
read = ChatService._read
def failing(self, request, *rest, **options):
    if request.user == "break service":
        raise ValueError(str(request))
    return read(self, request, *rest, **options)
ChatService._read = failing
sys.exit(main())
"""
GATEWAY = """
import sys
from rapport.gateway.__main__ import main
from rapport.gateway.transcoding.call import UpstreamCall
from tests.plain_http import NO_CERTIFICATES
metadata = UpstreamCall._metadata
def failing(self):
    if self.request.user == "break gateway":
        raise ValueError(str(self.request))
    return metadata(self)
UpstreamCall._metadata = failing
sys.exit(main())
"""


@dataclass(frozen=True)
class Pair:
    rest: str
    grpc: str
    logs: Mapping[str, Path]


@contextmanager
def pair(folder: Path, model_folder: Path, settings: Mapping[str, str]) -> Iterator[Pair]:
    """Runs both until the `with` ends; then their logs are whole."""
    grpc_port, http_port = free_ports(2)
    environment = {name: text for name, text in os.environ.items() if "OTEL" not in name} | {
        "RAPPORT_GRPC_PORT": str(grpc_port),
        "RAPPORT_HTTP_PORT": str(http_port),
        "RAPPORT_MODEL_FOLDER": str(model_folder),
        **{f"RAPPORT_{name.upper()}": text for name, text in settings.items()},
    }
    logs = {name: folder / f"{name}.log" for name in ("service", "gateway")}
    running = [
        start(program, environment, logs[name])
        for name, program in (("service", SERVICE), ("gateway", GATEWAY))
    ]
    both = Pair(f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}", logs)
    try:
        until_answered(f"{both.rest}/health")
        yield both
    finally:
        for process in running:
            process.terminate()
        assert [process.wait(WAIT) for process in running] == [0, 0]


def start(program: str, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as written:
        return subprocess.Popen(
            [sys.executable, "-c", program], env=environment, cwd=ROOT, stderr=written
        )


def until_answered(url: str) -> None:
    """Waits for a 200."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(url, verify=NO_CERTIFICATES).status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")
