"""The command line of the models."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rapport.models import __main__ as command
from rapport.models.__main__ import main
from rapport.models.cache.catalog import DEFAULT_MODEL
from rapport.models.cache.store import PARTIAL_SUFFIX, cache_root
from rapport.models.onnx.precision import cpu_precision


@pytest.mark.usefixtures("index")
def test_import_prints_the_folder(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Importing prints the folder, and progress apart from it."""
    assert main(["import", "tiny"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{cache}/models/tiny/{cpu_precision()}\n"
    assert "unpacking" in captured.err


def test_import_takes_a_file(
    cache: Path, tiny_gguf: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that ends in .gguf is a file to import."""
    assert main(["import", str(tiny_gguf()), "--precision", "float32"]) == 0
    assert capsys.readouterr().out == f"{cache}/models/tiny/float32\n"


@pytest.mark.usefixtures("index")
def test_path_of_what_is_there(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path is printed once the model is there; until then, what to run."""
    assert main(["path", "tiny"]) == 1
    assert (
        f"run: rapport models import tiny --precision {cpu_precision()}" in capsys.readouterr().err
    )
    assert main(["import", "tiny"]) == 0
    capsys.readouterr()
    assert main(["path", "tiny"]) == 0
    assert capsys.readouterr().out == f"{cache}/models/tiny/{cpu_precision()}\n"


@pytest.mark.usefixtures("cache", "index")
def test_list_tells_known_from_present(capsys: pytest.CaptureFixture[str]) -> None:
    """Each known model is listed with the precisions that are in the cache."""
    main(["import", "tiny", "--precision", "float32"])
    main(["import", "tiny", "--precision", "int4"])
    folder = cache_root() / "models" / "tiny" / "int4"
    shutil.copytree(
        folder, folder.with_name(f".int4.0{PARTIAL_SUFFIX}")
    )  # of an import that was killed
    capsys.readouterr()
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{DEFAULT_MODEL}  not in the cache", "tiny  float32, int4"]


@pytest.mark.usefixtures("cache")
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure is one line on standard error and status 1, without a traceback."""
    assert main(["import", "nonesuch"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rapport models: there is no model 'nonesuch'")
    assert captured.err.count("\n") == 1


@pytest.mark.usefixtures("cache")
def test_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the command with its usual status."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "ensure", interrupt)
    assert main(["import", "tiny"]) == 130


@pytest.mark.usefixtures("cache")
def test_runs_as_a_module() -> None:
    """The package can be run."""
    done = subprocess.run(
        [sys.executable, "-m", "rapport.models", "list"], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{DEFAULT_MODEL}  not in the cache\n"
