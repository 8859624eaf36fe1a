"""The server under test: one that is started here and ended with it, or one that runs."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
import psutil

from bench.errors import BenchError
from bench.processes import Parts, listening_parts, started_parts

# The first start fetches and imports the model.
START_LIMIT = 900.0
# Longer than `rapport serve` lets its parts take before it kills them.
STOP_LIMIT = 30.0
POLL = 0.05
LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server answers."""

    rest: str | None
    grpc: str | None
    pid: int | None = None
    """The process that the bench started, if it did."""
    service_metrics: str | None = None
    gateway_metrics: str | None = None

    def parts(self) -> Parts:
        """The server's processes."""
        if self.pid is not None:
            return started_parts(self.pid)
        addresses = [address for address in (self.rest, self.grpc) if address]
        return listening_parts({port for _, port in map(host_and_port, addresses)})


class Server:
    """A program that is healthy when the `with` begins and gone, children and all, after it."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        health: str,
        verify: ssl.SSLContext | bool = True,  # noqa: FBT001, FBT002 - as httpx has it
    ) -> None:
        self.ready_after = 0.0
        """Seconds from its start until it was healthy."""
        self.last_words = ""
        """The end of its log, once it has ended."""
        self._command = command
        self._environment = environment
        self._health = health
        self._verify = verify

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        """All that it has written so far; it must be running."""
        # The file's position is the server's own, so it stays where it is.
        file = self._log.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        began = time.perf_counter()
        # A session of its own: Ctrl-C reaches the bench alone, which then ends the server.
        self._process = subprocess.Popen(
            self._command,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_until_healthy(began + START_LIMIT)
        except BaseException:
            self._end()
            raise
        self.ready_after = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end()

    def _wait_until_healthy(self, deadline: float) -> None:
        with httpx.Client(trust_env=False, verify=self._verify) as http:
            while time.perf_counter() < deadline:
                status = self._process.poll()
                if status is not None:
                    reason = f"the server ended as it started, with status {status}"
                    raise BenchError(f"{reason}:\n{self._log_tail()}")
                with suppress(httpx.TransportError):
                    if http.get(self._health).status_code == httpx.codes.OK:
                        return
                time.sleep(POLL)
        raise BenchError(f"the server was not healthy in {START_LIMIT:g} s:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").splitlines()[-LOG_LINES:])

    def _end(self) -> None:
        family = self._family()
        try:
            self._process.terminate()
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            print("bench: the server did not end in time and is killed", file=sys.stderr)
        finally:
            # Also after a second Ctrl-C, and for children that outlived their parent.
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            self.last_words = self._log_tail()
            self._log.close()

    def _family(self) -> list[psutil.Process]:
        """The program and all it has started. Its parts have sessions, so no group holds them."""
        try:
            program = psutil.Process(self._process.pid)
            return [program, *program.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@contextmanager
def rapport(**settings: object) -> Iterator[tuple[Server, Target]]:
    """`rapport serve` of this virtual environment on free ports, with settings by their names."""
    program = Path(sys.executable).with_name("rapport")
    if not program.exists():
        raise BenchError(f"{program} is missing; run make setup")
    grpc_port, http_port, service_metrics, gateway_metrics = free_ports(4)
    chosen = {f"RAPPORT_{name.upper()}": str(value) for name, value in settings.items()}
    environment = (
        os.environ
        | chosen
        | {
            "RAPPORT_GRPC_HOST": "127.0.0.1",
            "RAPPORT_HTTP_HOST": "127.0.0.1",
            "RAPPORT_GRPC_PORT": str(grpc_port),
            "RAPPORT_HTTP_PORT": str(http_port),
            "RAPPORT_METRICS_PORT": str(service_metrics),
            "RAPPORT_GATEWAY_METRICS_PORT": str(gateway_metrics),
        }
    )
    rest = f"http://127.0.0.1:{http_port}"
    with Server([str(program), "serve"], environment, f"{rest}/health") as server:
        yield (
            server,
            Target(
                rest,
                f"127.0.0.1:{grpc_port}",
                server.pid,
                f"http://127.0.0.1:{service_metrics}/metrics",
                f"http://127.0.0.1:{gateway_metrics}/metrics",
            ),
        )


def end_on_sigterm() -> None:
    """Takes SIGTERM as Ctrl-C, so that servers are ended either way.

    Shells start background jobs with SIGINT ignored, and SIGTERM would be with it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def check_loopback(address: str) -> str:
    """Returns the address, a URL or host:port, if it is on this machine.

    Raises:
        BenchError: it is not; a load generator must not be pointed at others by mistake.
    """
    host, _ = host_and_port(address)
    if host != "localhost" and not _is_loopback(host):
        raise BenchError(f"{address} is not on this machine: only loopback addresses are loaded")
    return address


def host_and_port(address: str) -> tuple[str, int]:
    """Of a URL or host:port. Raises BenchError if it has not both."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        if parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise BenchError(f"{address} is not an address with a host and a port")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(bound.getsockname()[1]) for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()
