"""Finds out in a process of its own whether a grammar compiles within bounded time and memory."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from rapport.common.process import python_module
from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.fork_server import (
    FULL_PRIORITY_S,
    MAX_CPU_S,
    MAX_MEMORY_BYTES,
    MAX_WALL_S,
    PID_BYTES,
    Translate,
)
from rapport.service.structured_output.grammar_source import GrammarSource
from rapport.service.structured_output.strict_json import field_error

FORK_SERVER = "rapport.service.structured_output.fork_server"
# Until a fork server that has just been started has read the tokenizer.
MAX_START_S = 30.0
RETRY_S = 1.0
LOW_PRIORITY = 10
TAKES_TOO_MUCH = (
    f"Compiling the grammar takes over {MAX_CPU_S:g} s or {MAX_MEMORY_BYTES >> 20} MiB of memory"
)


class IsolatedCompiler:
    """Translates and compiles grammars in processes that can be ended. For any thread.

    A compiled grammar cannot be sent from one process to another. What comes back is its source,
    of which it is known then that it compiles within the limits.
    """

    def __init__(self, tokenizer: Path, vocabulary_size: int, ends: Sequence[int]) -> None:
        arguments = [str(tokenizer), str(vocabulary_size), *map(str, ends)]
        self._command = [*python_module(FORK_SERVER), *arguments]
        self._lock = Lock()
        self._server: _ForkServer | None = None
        self._closed = False

    def start(self) -> None:
        """Starts the fork server, if it does not run. It takes a second until it answers."""
        self._running_server()

    def translate(self, translate: Translate, field: str) -> GrammarSource | None:
        """What `translate` returns, after it was compiled in another process.

        `translate` must be picklable.

        Raises:
            InvalidRequestError: the grammar is wrong, cannot be enforced, or takes too much time
                or memory to compile. `field` is named in the last case.
            OverloadedError: no process could be started.
        """
        job = pickle.dumps(translate)
        # A second time, in case the fork server had ended by itself.
        for _ in range(2):
            server = self._running_server()
            answer = server.ask(job)
            if answer:
                return _read(json.loads(answer))
            if server.is_running():
                raise field_error(field, TAKES_TOO_MUCH)
        raise _unavailable()

    def close(self) -> None:
        """Ends all processes. Compilations that run fail."""
        with self._lock:
            self._closed = True
            if self._server is not None:
                self._server.end()

    def _running_server(self) -> _ForkServer:
        with self._lock:
            if self._closed:
                raise _unavailable()
            if self._server is not None and not self._server.is_running():
                self._server.end()
                self._server = None
            if self._server is None:
                self._server = _ForkServer(self._command)
            return self._server


def _unavailable() -> OverloadedError:
    return OverloadedError("grammars cannot be compiled now", Bound.GRAMMARS, RETRY_S)


def _read(answer: dict[str, Any]) -> GrammarSource | None:
    """The source that an answer holds; raises what it says is wrong."""
    if "violations" in answer:
        violations = [FieldViolation(*each) for each in answer["violations"]]
        raise InvalidRequestError(violations, answer["message"])
    if "traceback" in answer:
        raise RuntimeError(answer["traceback"])
    if answer["grammar"] is None:
        return None
    fields = answer["grammar"]
    return GrammarSource(**fields | {"unenforced": tuple(fields["unenforced"])})


class _ForkServer:
    """A running `fork_server.py`."""

    def __init__(self, command: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=theirs.fileno(),
                # A thread of the linear algebra library would make forking unsafe.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                # So that it can be ended with its children. A signal from the terminal is for the
                # service, which lets requests finish first.
                process_group=0,
            )

    def ask(self, job: bytes) -> bytes:
        """The answer of a worker, which is empty if the worker was ended."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(MAX_START_S + MAX_WALL_S)
            try:
                with theirs:
                    socket.send_fds(self._control, [b"."], [theirs.fileno()])
                ours.sendall(job)
                worker = int.from_bytes(ours.recv(PID_BYTES))
                _wait_for_quick_answer(ours, worker)
                ours.settimeout(MAX_WALL_S + MAX_START_S)
                with ours.makefile("rb") as answer:
                    return answer.read()
            except TimeoutError:
                self.end()
            except OSError:
                # The worker ended before it had read all.
                pass
        return b""

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """Ends the fork server and its workers. Workers that it left behind end as well."""
        self._control.close()
        if self.is_running():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _wait_for_quick_answer(connection: socket.socket, worker: int) -> None:
    """Lowers the worker's priority if its answer does not begin soon."""
    connection.settimeout(FULL_PRIORITY_S)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, worker, LOW_PRIORITY)
