"""Runs the tests that are marked `cuda_stub` in a process of their own, over the stub.

ONNX Runtime loads CUDA's libraries by name, so their folder must be known when a process starts.
All tests of a file run in one child process, which writes its reports down.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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


def isolate(items: list[pytest.Item]) -> None:
    """Replaces marked tests by ones that run in a child process, unless this is one."""
    if REPORTS in os.environ:
        return
    for place, item in enumerate(items):
        if item.get_closest_marker(MARKER) is not None:
            items[place] = IsolatedTest.of(item)


class IsolatedError(Exception):
    """A test has failed in the child process; the text is what was reported there."""


class IsolatedTest(pytest.Item):
    """A test that runs in the child process of its file."""

    line = 0

    @classmethod
    def of(cls, item: pytest.Item) -> IsolatedTest:
        test: IsolatedTest = cls.from_parent(item.parent, name=item.name)
        test.own_markers.extend(item.own_markers)
        test.line = item.reportinfo()[1] or 0
        return test

    def runtest(self) -> None:
        if (reason := _obstacle()) is not None:
            pytest.skip(reason)
        nodes = [each.nodeid for each in self.session.items if each.path == self.path]
        reports, output = _run(self.config, tuple(nodes))
        own = [report for report in reports if report.nodeid == self.nodeid]
        for report in own:
            if report.skipped:
                pytest.skip(report.longreprtext)
            if report.failed:
                raise IsolatedError(report.longreprtext)
        if not any(report.when == "teardown" for report in own):
            raise IsolatedError(f"the child process ended in this test or before it:\n{output}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
        error = excinfo.value
        return str(error) if isinstance(error, IsolatedError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.line, self.name


def stub_folder() -> Path:
    """The folder with the stub's libraries, built once for this process."""
    return Path(_built().name)


def environment(**settings: object) -> dict[str, str]:
    """The environment of a process over the stub; `settings` are those of runtime.c, in short."""
    named = {f"CUDA_STUB_{name.upper()}": str(value) for name, value in settings.items()}
    path = os.pathsep.join(filter(None, [str(stub_folder()), os.environ.get("LD_LIBRARY_PATH")]))
    return os.environ | {"LD_LIBRARY_PATH": path} | named


@cache
def _obstacle() -> str | None:
    return obstacle()


@cache
def _built() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="cuda-stub-")
    build(Path(folder.name))
    return folder


@cache
def _run(config: pytest.Config, nodes: tuple[str, ...]) -> tuple[list[pytest.TestReport], str]:
    """Runs tests in a child process. Returns their reports, and the end of what it printed."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "reports"
        path.touch()
        plugins = [f"-p{name}" for name in PLUGINS]
        options = ["-q", "-m", MARKER, *plugins]
        try:
            run = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *nodes],
                cwd=config.rootpath,
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
