"""Compiles grammars in processes that can be ended: `python -m` with this module's name.

A compilation cannot be interrupted and may need any time and memory: one of a schema of 42 bytes
took 1.5 s. In a process of its own the kernel ends it. The fork server has the tokenizer in memory
and a single thread, so that it can fork a new worker within milliseconds when one has ended.

Its standard input is a socket that the workers share. On it the service sends one end of a new
socket for each compilation (`isolated_compiler.py`). When the service is gone, all of them end.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.grammar_source import (
    GrammarSource,
    compile_source,
    first_paths,
)
from rapport.service.structured_output.response_format import grammar_source
from rapport.service.tools.grammar import tool_call_grammar
from rapport.service.tools.tool_choice import NO_PARAMETERS, Function, ToolPolicy
from rapport.v1.format_pb2 import ResponseFormat

# Compilations at once. More would take too much processor time from the model.
WORKERS = 2
# Of processor time. A schema with 2000 keys takes 0.8 s.
MAX_CPU_S = 2.0
# Until a worker has had its processor time, where others want the processors as well.
MAX_WALL_S = 10.0
# On top of what a new worker has. A schema with 2000 keys takes 20 MB.
MAX_MEMORY_BYTES = 256 << 20
# A worker that has grown by more is replaced.
MAX_KEPT_BYTES = 32 << 20
# The service then lowers the worker's priority, so that it gives way to the model and to other
# compilations. It cannot be raised again, so that the worker is replaced.
FULL_PRIORITY_S = 0.1
PID_BYTES = 8
# Where there is no such file, memory is not limited.
STATM = Path("/proc/self/statm")

Translate = Callable[[], GrammarSource | None]

# What is imported, cached or set up with the first grammars is there before workers are forked.
FIRST_GRAMMARS: tuple[Translate, ...] = (
    partial(grammar_source, ResponseFormat(json_schema='{"type": "object"}')),
    partial(tool_call_grammar, ToolPolicy((Function("f", NO_PARAMETERS, "tools"),))),
)


def serve(tokenizer: Path, vocabulary_size: int, ends: Sequence[int]) -> None:
    """Keeps `WORKERS` workers running until the service is gone."""
    vocabulary = Vocabulary(tokenizer.read_text(encoding="utf-8"), vocabulary_size)
    compiler = GrammarCompiler(vocabulary, ends)
    for translate in FIRST_GRAMMARS:
        _answer(compiler, translate)
    # Processes that abort leave no core dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Keeps pages shared with the workers, which a search for garbage would write to.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=sys.stdin.fileno()) as control:
        _keep_workers(compiler, control)
    os.killpg(0, signal.SIGKILL)


def _keep_workers(compiler: GrammarCompiler, control: socket.socket) -> None:
    """Forks workers, also in place of those that end. Returns when the service is gone."""
    child_ended, wakeup = socket.socketpair()
    wakeup.settimeout(0)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    events = select.poll()
    events.register(child_ended, select.POLLIN)
    # Messages are for the workers. That the other end is closed is reported anyway.
    events.register(control, 0)
    workers: set[int] = set()
    while True:
        workers |= {_fork_worker(compiler, control) for _ in range(WORKERS - len(workers))}
        if control.fileno() in dict(events.poll()):
            return
        child_ended.recv(1024)
        workers -= set(_reap())


def _fork_worker(compiler: GrammarCompiler, control: socket.socket) -> int:
    if worker := os.fork():
        return worker
    try:
        signal.set_wakeup_fd(-1)
        # Libraries that abort would write to the service's log.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        _work(compiler, control)
    finally:
        os._exit(0)


def _reap() -> Iterator[int]:
    """The workers that have ended."""
    with suppress(ChildProcessError):
        while worker := os.waitpid(-1, os.WNOHANG)[0]:
            yield worker


def _work(compiler: GrammarCompiler, control: socket.socket) -> None:
    """Answers requests until the service is gone or this worker is to be replaced.

    A limit ends the worker without an answer.
    """
    max_kept_bytes = _limit_memory()
    while descriptors := socket.recv_fds(control, 1, 1)[1]:
        began = time.monotonic()
        with socket.socket(fileno=descriptors[0]) as connection:
            connection.sendall(os.getpid().to_bytes(PID_BYTES))
            with connection.makefile("rb") as request:
                translate: Translate = pickle.load(request)  # noqa: S301 - the service wrote it
            with _limited_time():
                answer = json.dumps(_answer(compiler, translate)).encode()
            connection.sendall(answer)
        if time.monotonic() - began > FULL_PRIORITY_S or _memory_bytes() > max_kept_bytes:
            return


def _limit_memory() -> int:
    """Limits the memory of this process. Returns at how many bytes it is to be replaced."""
    if not (used := _memory_bytes()):
        return 0
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY_BYTES,) * 2)
    return used + MAX_KEPT_BYTES


def _memory_bytes() -> int:
    """The address space of this process; 0 where it is unknown."""
    if not STATM.exists():
        return 0
    return int(STATM.read_text().split()[0]) * resource.getpagesize()


@contextmanager
def _limited_time() -> Iterator[None]:
    """Ends this process if the block takes too long.

    By default a process ends at the signals of these timers, also in the middle of native code.
    """
    limits = {signal.ITIMER_PROF: MAX_CPU_S, signal.ITIMER_REAL: MAX_WALL_S}
    for timer, seconds in limits.items():
        signal.setitimer(timer, seconds)
    yield
    for timer in limits:
        signal.setitimer(timer, 0)


def _answer(compiler: GrammarCompiler, translate: Translate) -> dict[str, Any]:
    """What the service gets as JSON: `grammar`, or what is wrong.

    Raises:
        MemoryError: it takes too much memory.
    """
    try:
        grammar = translate()
        if grammar is None:
            return {"grammar": None}
        before = _memory_bytes()
        grammar = _compilable(compiler, grammar)
        memory = max(_memory_bytes() - before, 0)
    except InvalidRequestError as error:
        violations = [(each.field, each.description) for each in error.violations]
        return {"message": str(error), "violations": violations}
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the service reports it
        return {"traceback": traceback.format_exc()}
    fields = {"text": grammar.text, "field": grammar.field, "memory_bytes": memory}
    return {"grammar": fields | {"unenforced": first_paths(grammar.unenforced)}}


def _compilable(compiler: GrammarCompiler, grammar: GrammarSource) -> GrammarSource:
    """A grammar that compiles: this one, or that which takes its place.

    Raises:
        InvalidRequestError: there is none.
    """
    try:
        compile_source(compiler, grammar)
    except InvalidRequestError:
        if grammar.if_refused is None:
            raise
        return _compilable(compiler, grammar.if_refused())
    return grammar


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), list(map(int, sys.argv[3:])))
