"""Runs the tests that are marked `cuda_stub` in a process of their own, over the stub.

ONNX Runtime loads CUDA's libraries by name, so their folder must be known when a process starts.
All tests of a file run in one child process, which writes its reports down; they are then reported
here as if they had run here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.cuda_stub.build import build, obstacle

MARKER = "cuda_stub"
REPORTS = "CUDA_STUB_REPORTS"
"""In a child process: the file that it writes its reports to."""
LIMIT_S = 200
# Others take seconds to load.
PLUGINS = ("no:cacheprovider", "pytest_asyncio.plugin", "pytest_timeout")


class Recorder:
    """In the child process: writes each report down."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self._config.hook
        data = hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._path.open("a") as file:
            file.write(json.dumps(data) + "\n")


def configure(config: pytest.Config) -> None:
    """Has reports written down if this is a child process."""
    if path := os.environ.get(REPORTS):
        config.pluginmanager.register(Recorder(config, Path(path)))


def run_isolated(item: pytest.Item) -> bool:
    """Reports a marked test from a child process; returns False if it is to run here."""
    if item.get_closest_marker(MARKER) is None or REPORTS in os.environ:
        return False
    if (reason := obstacle()) is not None:
        item.add_marker(pytest.mark.skip(reason=reason))
        return False
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports_of(item):
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def stub_folder() -> Path:
    """The folder with the stub's libraries, built once for this process."""
    return Path(_built().name)


def environment(**settings: object) -> dict[str, str]:
    """The environment of a process over the stub; `settings` are those of runtime.c, in short."""
    named = {f"CUDA_STUB_{name.upper()}": str(value) for name, value in settings.items()}
    path = os.pathsep.join(filter(None, [str(stub_folder()), os.environ.get("LD_LIBRARY_PATH")]))
    return os.environ | {"LD_LIBRARY_PATH": path} | named


@cache
def _built() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="cuda-stub-")
    build(Path(folder.name))
    return folder


def _reports_of(item: pytest.Item) -> list[pytest.TestReport]:
    nodes = [other.nodeid for other in item.session.items if other.path == item.path]
    reports, output = _run(item.config, item.config.rootpath, tuple(nodes))
    own = [report for report in reports if report.nodeid == item.nodeid]
    if any(report.when == "teardown" for report in own):
        return own
    text = f"the process over the stub ended in this test or before it:\n{output}"
    crashed = pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")
    return [*own, crashed]


@cache
def _run(
    config: pytest.Config, root: Path, nodes: tuple[str, ...]
) -> tuple[list[pytest.TestReport], str]:
    """Runs tests in a child process. Returns their reports, and the end of what it printed."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "reports"
        path.touch()
        plugins = [f"-p{name}" for name in PLUGINS]
        options = ["-q", "-m", MARKER, *plugins]
        try:
            run = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *nodes],
                cwd=root,
                env=environment() | {REPORTS: str(path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
            output = run.stdout
        except subprocess.TimeoutExpired as error:
            output = f"{error.stdout!r}\n{error}"
        lines = path.read_text().splitlines()
    restore = config.hook.pytest_report_from_serializable
    return [restore(config=config, data=json.loads(line)) for line in lines], output[-5000:]
