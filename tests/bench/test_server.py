from __future__ import annotations

import os
import sys

import psutil
import pytest

from bench.errors import BenchError
from bench.server import Server, check_loopback, free_ports

# Answers /health and has a child that heeds no SIGTERM, in a session of its own.
SERVER = """
import http.server, subprocess, sys
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", ignore], start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(code: str) -> Server:
    port = free_ports(1)[0]
    command = [sys.executable, "-c", code, str(port)]
    return Server(command, os.environ, f"http://127.0.0.1:{port}/health")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_a_server(error: type[BaseException]) -> None:
    """After the `with`, also one left by Ctrl-C, the server and its children are gone."""
    family: list[psutil.Process] = []
    with pytest.raises(error), server(SERVER) as started:  # noqa: PT012 - what is left counts
        family += [psutil.Process(started.pid), *psutil.Process(started.pid).children()]
        raise error
    assert len(family) == 2
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert started.ready_after > 0


def test_a_server_that_ends_at_once_tells_why() -> None:
    """Its status and what it said last are in the error."""
    expected = "with status 1:\nno such model"
    with pytest.raises(BenchError, match=expected), server("exit('no such model')"):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "http://[::1]:8080"])
def test_this_machine_may_be_loaded(address: str) -> None:
    """Addresses of this machine are taken as they are."""
    assert check_loopback(address) == address


@pytest.mark.parametrize("address", ["10.0.0.1:1", "http://example.com:80", "0.0.0.0:1", "::1"])
def test_other_machines_may_not_be_loaded(address: str) -> None:
    """Anything else is refused, an address without a port among it."""
    with pytest.raises(BenchError):
        check_loopback(address)
