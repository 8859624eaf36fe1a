"""The distributions, built from the checkout and installed away from it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Modules that write their names to a file when they are imported.
HOSTILE = (
    "json.py",
    "grpc.py",
    "sitecustomize.py",
    "usercustomize.py",
    "pip/__init__.py",
    "google/__init__.py",
    "models/__init__.py",
    "service/__init__.py",
    "gateway/__init__.py",
    "rapport/__init__.py",
    "rapport/cli/__init__.py",
    "rapport/service/__init__.py",
    "rapport/gateway/__init__.py",
)
MARKER = "imported.txt"


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, env=clean_environment())


def clean_environment() -> dict[str, str]:
    """The environment without what would lead Python to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory whose modules have the names of ours and write a file if imported."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in HOSTILE:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"open({str(folder / MARKER)!r}, 'a').write({name!r} + '\\n')\n"
            f"raise ImportError({name!r})\n"
        )
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Wheels of both distributions."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder)
    run(*pip, "./protos", ".", cwd=ROOT)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a fresh virtual environment and returns its folder of programs."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, with_pip=True)
        return folder / "bin"

    return make


@pytest.fixture(scope="session")
def installed(wheels: list[Path], new_environment: Callable[[], Path]) -> Path:
    """Programs of an environment that has the wheels.

    Their dependencies are those of the environment that runs the tests: a path that a .pth file
    adds comes last, and .pth files in it, such as those of editable installs, are not read.
    """
    programs = new_environment()
    run(programs / "pip", "install", "--quiet", "--no-deps", *wheels, cwd=programs)
    libraries = next((programs.parent / "lib").glob("python*/site-packages"))
    (libraries / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return programs
