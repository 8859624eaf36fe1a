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
from tests.models.genai.conftest import FOLDERS


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


def test_path_in_whatever_precision(
    cache: Path, tiny_gguf: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a precision it is one that is there."""
    assert run(capsys, "import", tiny_gguf(), "--precision", "float32")[0] == 0
    assert run(capsys, "path", "tiny") == (0, f"{cache}/models/tiny/float32\n", "")
    assert run(capsys, "path", "tiny", "--precision", "int8")[0] == 1


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


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The status of a command, its output and what it says beside it."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_add_says_what_it_will_do(
    cache: Path, tiny_gguf: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan comes first: what the model is, what becomes of its weights, how large it is."""
    gguf = tiny_gguf(kind="Q5_0")
    status, out, _ = run(capsys, "add", gguf, "--name", "Mine", "--precision", "int4")
    assert status == 0
    first, *fates, size, folder = out.splitlines()
    assert first == "mine: llama, 2 layers, 0 million weights, context of 128 tokens"
    assert fates == [
        "  14 matrices of Q5_0: kept exactly, in 8 bits",
        "  1 matrices of Q8_0: kept exactly, in 8 bits",
    ]
    assert size.startswith("  about 0 MiB on disk and in memory in int4 (0 MiB in int8, ")
    assert folder == f"{cache}/models/mine/int4"


def test_a_folder_is_added_by_its_name(
    cache: Path, tiny_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A Hugging Face folder, whose floats are quantised."""
    source = tiny_folder()
    status, out, _ = run(capsys, "add", source, "--precision", "int4")
    assert status == 0
    _, fate, _, folder = out.splitlines()
    assert fate == (
        "  15 matrices of F32: converted to 4 bits in blocks of 32, token vectors to 8 bits"
    )
    assert folder == f"{cache}/models/tiny/int4"
    assert run(capsys, "verify", "tiny")[0] == 0
    assert f"\n  folder: {source}\n  safetensors_sha256: " in run(capsys, "show", "tiny")[1]
    assert run(capsys, "import", source, "--precision", "int8")[0] == 0
    assert run(capsys, "path", "tiny", "--precision", "int8") == (
        0,
        f"{cache}/models/tiny/int8\n",
        "",
    )


@pytest.mark.usefixtures("cache")
def test_what_a_file_says_is_printed_on_one_line(
    tiny_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that it says moves the cursor, or passes for a message of its own."""
    status, _, err = run(capsys, "add", tiny_folder(model_type="\x1b[2Jx\nrapport models: fine"))
    assert (status, err.count("\n")) == (1, 1)
    assert r"model_type \x1b[2Jx\nrapport models: fine is not supported" in err


def test_import_takes_what_add_takes(
    cache: Path, tiny_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the same precision: a folder's floats in 8 bits, genai's weights as they are."""
    assert run(capsys, "import", tiny_folder())[1] == f"{cache}/models/tiny/int8\n"
    genai = FOLDERS / "gemma2-float32"
    assert run(capsys, "import", genai)[1] == f"{cache}/models/gemma2-float32/float32\n"
    assert "is not of the form hf:owner/name" in run(capsys, "import", "hf:mine")[2]


@pytest.mark.usefixtures("cache")
def test_add_without_a_template(
    tiny_gguf: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A base model needs a template, which is served as it is given."""
    gguf, template = tiny_gguf(template=None), tmp_path / "template.jinja"
    status, out, err = run(capsys, "add", gguf)
    assert (status, out) == (1, "")
    assert "no chat template" in err
    status, _, err = run(capsys, "add", gguf, "--chat-template", template)
    assert (status, err.count("\n")) == (1, 1)
    template.write_text("{{ messages[0].content }}")
    status, out, _ = run(capsys, "add", gguf, "--chat-template", template)
    assert status == 0
    written = Path(out.splitlines()[-1]) / "chat_template.jinja"
    assert written.read_text() == template.read_text()


@pytest.mark.usefixtures("cache")
def test_show_verify_and_remove(
    tiny_gguf: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A model is shown, its damage found, and it is removed."""
    for precision in ("int4", "float32"):
        main(["add", str(tiny_gguf()), "--precision", precision])
    folder = cache_root() / "models" / "tiny" / "int4"
    status, out, _ = run(capsys, "show", "tiny")
    assert status == 0
    assert f"tiny int4: 0 MiB in {folder}\n  2 layers, a context of 128 tokens\n  file: " in out
    assert "tiny float32" in out
    assert run(capsys, "verify", "tiny", "--precision", "int4") == (0, f"{folder} is sound\n", "")
    weights = folder / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    status, _, err = run(capsys, "verify", "tiny")
    assert status == 1
    assert f"{folder}: damaged: model.onnx.data" in err
    assert run(capsys, "remove", "tiny", "--precision", "int4")[:2] == (0, f"removed {folder}\n")
    assert not folder.exists()
    assert run(capsys, "remove", "tiny")[0] == 0
    for command_ in ("show", "verify", "remove"):
        status, _, err = run(capsys, command_, "tiny")
        assert (status, err.startswith("rapport models: there is no model 'tiny'")) == (1, True)


def test_what_cannot_be_shown_says_so(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of another version."""
    folder = cache / "models" / "old" / "int4"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    for command_ in ("show", "verify"):
        status, _, err = run(capsys, command_, "old")
        assert status == 1
        assert "another version" in err
