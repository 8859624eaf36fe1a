"""A gateway that runs out of files refuses, and goes on."""

from __future__ import annotations

import socket
import sys
from asyncio import create_subprocess_exec, wait_for
from asyncio.subprocess import PIPE
from pathlib import Path

from rapport.common.fd_limit import RESERVED_FILES

ROOT = Path(__file__).parents[3]
LIMIT = 128
PROGRAM = (
    "import resource, sys; from rapport.gateway.__main__ import main;"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT} // 2, {LIMIT}));"
    "sys.exit(main(['--http-port', '0', '--no-metrics']))"
)
ASK = b"GET /v1/nowhere HTTP/1.1\r\nhost: x\r\n\r\n"


def answer(port: int, connections: list[socket.socket]) -> bytes:
    """The head of the answer that a new connection gets, or nothing."""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connections.append(connection)
    connection.sendall(ASK)
    try:
        return connection.recv(1 << 16)
    except ConnectionResetError:
        return b""


def is_taken(head: bytes) -> bool:
    return bool(head) and b"connection: close" not in head


async def test_beyond_the_limit_connections_are_refused() -> None:
    """The limit is raised as far as it goes; beyond it there is no connection or a 503.

    That is as other errors are, and says when to come back.
    """
    process = await create_subprocess_exec(sys.executable, "-c", PROGRAM, cwd=ROOT, stderr=PIPE)
    assert process.stderr is not None
    port = int((await wait_for(process.stderr.readline(), 20)).rpartition(b":")[2])
    connections: list[socket.socket] = []
    try:
        answers = [answer(port, connections) for _ in range(2 * LIMIT)]
        taken = sum(is_taken(each) for each in answers)
        assert taken == LIMIT - RESERVED_FILES
        assert not is_taken(answers[-1])
        refusals = [each for each in answers if each and not is_taken(each)]
        assert refusals
        for each in refusals:
            assert each.startswith(b"HTTP/1.1 503 ")
            assert b"content-type: application/json\r\n" in each
            assert b"retry-after: 1\r\n" in each
            assert b"x-request-id: " in each
        for connection in connections:
            connection.close()
        assert is_taken(answer(port, connections))
    finally:
        process.terminate()
        _, log = await wait_for(process.communicate(), 10)
        for connection in connections:
            connection.close()
    assert b"Traceback" not in log
    assert process.returncode == 0
