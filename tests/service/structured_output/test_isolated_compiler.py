"""Processes that compile: what ends them, and what follows."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
import pytest

from rapport.service.engine.errors import OverloadedError
from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.fork_server import WORKERS
from rapport.service.structured_output.grammar_source import GrammarSource
from rapport.service.structured_output.isolated_compiler import IsolatedCompiler
from rapport.service.structured_output.response_format import grammar_source
from rapport.v1.format_pb2 import ResponseFormat
from tests.service.structured_output.sampling import ENDS, SIZE

LETTERS = GrammarSource("start: /[ab]+/", "tools")
MAX_WAIT_S = 60
# Starts processes, says their leader's id, and does nothing more.
SERVICE = """
import sys, time
from pathlib import Path
from rapport.service.structured_output.isolated_compiler import IsolatedCompiler
compiler = IsolatedCompiler(Path(sys.argv[1]), 49152, [0, 2])
compiler.start()
print(compiler._server._process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def own(cpu_folder: Path) -> Iterator[IsolatedCompiler]:
    """Processes that a test may end."""
    with closing(IsolatedCompiler(cpu_folder / "tokenizer.json", SIZE, ENDS)) as running:
        yield running


def leader(compiler: IsolatedCompiler) -> psutil.Process:
    assert compiler._server is not None
    return psutil.Process(compiler._server._process.pid)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + MAX_WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def works(compiler: IsolatedCompiler) -> bool:
    return compiler.translate(partial(GrammarSource, LETTERS.text, LETTERS.field), "") == LETTERS


def test_the_source_comes_back(isolated: IsolatedCompiler) -> None:
    """Of a grammar that compiles, the source is the one that the service would make itself."""
    wanted = ResponseFormat(json_schema='{"type": "object", "properties": {"ä": {}}}')
    translate = partial(grammar_source, wanted)
    assert isolated.translate(translate, "") == grammar_source(wanted)
    assert isolated.translate(partial(grammar_source, ResponseFormat()), "") is None


def test_paths_come_back_cut(isolated: IsolatedCompiler) -> None:
    """What is not enforced may have paths of many megabytes. A header's worth comes back."""
    items = ", ".join(['{"uniqueItems": true}'] * 100)
    schema = f'{{"properties": {{"{"k" * 10_000}": {{"prefixItems": [{items}]}}}}}}'
    translate = partial(grammar_source, ResponseFormat(json_schema=schema))
    source = isolated.translate(translate, "")
    assert source is not None
    assert source.unenforced == ("...",)


def test_errors_come_back_whole(isolated: IsolatedCompiler) -> None:
    """An error has the message and the violations that it has where it is raised."""
    names = ", ".join(f'"p{number}": {{"format": {number}}}' for number in range(20))
    wanted = ResponseFormat(json_schema=f'{{"properties": {{{names}}}}}')
    with pytest.raises(InvalidRequestError) as here:
        grammar_source(wanted)
    with pytest.raises(InvalidRequestError) as there:
        isolated.translate(partial(grammar_source, wanted), "")
    assert str(there.value) == str(here.value)
    assert there.value.violations == here.value.violations


def test_a_grammar_that_the_engine_refuses(isolated: IsolatedCompiler) -> None:
    """What is translated is compiled as well, so that errors of the engine come back."""
    with pytest.raises(InvalidRequestError, match="Grammar not supported: "):
        isolated.translate(partial(GrammarSource, "start: missing", "tools"), "")


def test_a_fault_is_reported(isolated: IsolatedCompiler) -> None:
    """A fault in the translation is one of the service, with the place where it happened."""
    with pytest.raises(RuntimeError, match="invalid literal"):
        isolated.translate(partial(int, "x"), "")  # type: ignore[arg-type]
    assert works(isolated)


@pytest.mark.parametrize(
    "translate",
    [
        # Native code, which no exception interrupts.
        partial(sum, itertools.repeat(1)),
        partial(bytearray, 1 << 30),
        partial(grammar_source, ResponseFormat(regex="a?" * 15_000)),
        partial(os.abort),
    ],
    ids=["endless", "large", "regex", "aborted"],
)
def test_what_takes_too_much_is_ended(
    isolated: IsolatedCompiler, translate: Callable[[], GrammarSource]
) -> None:
    """Too much time or memory ends the worker in the middle of its work; the next one goes on."""
    with pytest.raises(InvalidRequestError) as caught:
        isolated.translate(translate, "response_format")
    text = "Compiling the grammar takes over 2 s or 256 MiB of memory"
    assert caught.value.violations == (FieldViolation("response_format", text),)
    assert works(isolated)


def test_workers_are_replaced(own: IsolatedCompiler) -> None:
    """However many workers end, there are never more or fewer of them for long."""
    assert works(own)
    for _ in range(5):
        with pytest.raises(InvalidRequestError):
            own.translate(partial(os.abort), "")
    wait_until(lambda: len(leader(own).children()) == WORKERS)
    assert works(own)


def test_a_fork_server_that_ended_is_replaced(own: IsolatedCompiler) -> None:
    """Should the fork server itself be killed, compilations go on with a new one."""
    assert works(own)
    first = leader(own)
    workers = first.children()
    first.kill()
    wait_until(lambda: not (own._server and own._server.is_running()))
    assert works(own)
    assert leader(own) != first
    wait_until(lambda: not any(map(psutil.Process.is_running, workers)))


def test_nothing_is_compiled_once_closed(own: IsolatedCompiler) -> None:
    """Closing ends all processes, and what comes later is refused."""
    assert works(own)
    processes = [leader(own), *leader(own).children()]
    own.close()
    wait_until(lambda: not any(map(psutil.Process.is_running, processes)))
    with pytest.raises(OverloadedError):
        works(own)


def test_processes_end_with_the_service(cpu_folder: Path) -> None:
    """A service that is killed leaves no process."""
    command = [sys.executable, "-c", SERVICE, str(cpu_folder / "tokenizer.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        server = psutil.Process(int(service.stdout.readline()))
        wait_until(lambda: len(server.children()) == WORKERS)
        processes = [server, *server.children()]
        service.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(psutil.Process.is_running, processes)))


def test_memory_is_measured(isolated: IsolatedCompiler) -> None:
    """With the source comes how much memory its grammar takes."""
    form = ResponseFormat(json_schema='{"type": "integer", "multipleOf": 50021}')
    large = isolated.translate(partial(grammar_source, form), "response_format")
    small = isolated.translate(partial(GrammarSource, 'start: "small"', "tools"), "tools")
    assert large is not None
    assert small is not None
    assert large.memory_bytes > 10 << 20
    assert small.memory_bytes < 1 << 20
