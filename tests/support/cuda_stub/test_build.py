"""Where the stub of CUDA cannot be built, tests over it are skipped with the reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cuda_stub import build

needs_gcc = pytest.mark.skipif(build.obstacle() is not None, reason=str(build.obstacle()))


def test_a_machine_without_a_compiler_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.obstacle() == "the stub of CUDA needs gcc and nm and readelf"


@needs_gcc
def test_a_compiler_without_headers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """gcc alone, as a package manager may install it, does not do."""
    monkeypatch.setattr(build, "COMPILES", (*build.COMPILES, "-nostdinc"))
    assert build.obstacle() == "the stub of CUDA needs the headers of libc"


def test_tests_over_it_are_then_skipped(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not failed: the rest of the suite needs no compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    test = "tests/service/engine/runtime/test_cuda.py::test_the_memory_of_a_device_is_told"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", test],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "1 skipped" in done.stdout
    assert "the stub of CUDA needs gcc and nm and readelf" in done.stdout
    assert done.returncode == 0
