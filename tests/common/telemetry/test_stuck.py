"""What a reader of the log and a receiver of traces can do to a process: nothing."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from bench.server import free_ports
from tests.common.telemetry.processes import until_answered
from tests.plain_http import NO_CERTIFICATES

Receiver = Callable[[], AbstractContextManager[str]]

ROOT = Path(__file__).parents[3]
REQUESTS = 200


@contextmanager
def gateway(stderr: int, *flags: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A gateway in front of nothing, which answers all the same."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "rapport.gateway", "--http-port", str(port), *flags]
    process = subprocess.Popen([*command, "--grpc-port", "1"], cwd=ROOT, stderr=stderr)
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=10, verify=NO_CERTIFICATES
        ) as client:
            until_answered(f"{client.base_url}/docs")
            yield process, client
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux makes pipes small")
def test_a_full_pipe_stops_nobody() -> None:
    """With a log that nobody reads, all requests are answered, and the end comes in time."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with gateway(writer, "--log-format", "json") as (process, client):
        os.close(writer)
        statuses = {client.get("/docs").status_code for _ in range(REQUESTS)}
        assert statuses == {200}
        process.terminate()
        assert process.wait(10) == 0
    os.close(reader)


@contextmanager
def deaf() -> Iterator[str]:
    """A receiver that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def dead() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize("receiver", [deaf, dead])
def test_a_lost_receiver_stops_nobody(receiver: Receiver) -> None:
    """Without a receiver requests are answered as ever, and the end comes in time."""
    with (
        receiver() as url,
        gateway(subprocess.DEVNULL, "--otel-endpoint", url) as (process, client),
    ):
        statuses = {client.get("/v1/models").status_code for _ in range(REQUESTS)}
        assert statuses == {503}
        process.terminate()
        assert process.wait(10) == 0
