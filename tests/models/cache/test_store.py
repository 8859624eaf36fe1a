"""What is written to the cache is whole or absent, whoever else is writing."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rapport.models.cache import store
from rapport.models.cache.store import (
    PARTIAL_SUFFIX,
    cache_root,
    discard,
    partial_folder,
    publish,
    writing,
)
from rapport.models.progress import silent


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RAPPORT_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"RAPPORT_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/rapport"),
        ({"RAPPORT_CACHE": "~/c", "HOME": "/home/her"}, "/home/her/c"),
        ({"HOME": "/home/her"}, "/home/her/.cache/rapport"),
    ],
)
def test_root(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    """The cache is where the environment says, else where caches are."""
    for name in ("RAPPORT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(expected)


def test_published_folder_replaces_the_old(tmp_path: Path) -> None:
    """A finished folder takes the place of what was there, and nothing else is left."""
    final = tmp_path / "final"
    for content in ("old", "new"):
        with partial_folder(final) as partial:
            (partial / "file").write_text(content)
            publish(partial, final)
    assert (final / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [final]


def test_others_may_read_what_is_published(tmp_path: Path) -> None:
    """A folder in the cache has the permissions that the user's umask gives."""
    ordinary = tmp_path / "ordinary"
    ordinary.mkdir()
    with partial_folder(tmp_path / "final") as partial:
        publish(partial, tmp_path / "final")
    assert stat.S_IMODE((tmp_path / "final").stat().st_mode) == stat.S_IMODE(
        ordinary.stat().st_mode
    )


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    """A partial folder goes when its writer fails, and the model's if it has no other."""

    def write_half() -> None:
        with partial_folder(tmp_path / "model/int4") as partial:
            (partial / "file").write_text("half")
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_disk_that_cannot_flush_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be flushed to disk does not appear, and what was there stays."""
    final = tmp_path / "final"
    final.mkdir()
    (final / "file").write_text("old")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(store.os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"), partial_folder(final) as partial:
        publish(partial, final)
    assert (final / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_failing_replacement_leaves_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the new folder cannot take the old one's place, neither of them is half there."""
    final = tmp_path / "model/int4"
    rename = Path.rename

    def fail_to(self: Path, target: Path) -> Path:
        if target == final:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    final.mkdir(parents=True)
    monkeypatch.setattr(Path, "rename", fail_to)
    with pytest.raises(OSError, match="Input/output"), partial_folder(final) as partial:
        publish(partial, final)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_are_cleared(cache: Path) -> None:
    """The next writer clears away what dead ones have left, and nothing else."""
    leftovers = [
        cache / "models" / "m" / f".int4.1{PARTIAL_SUFFIX}",
        cache / "sources" / f".g.2{PARTIAL_SUFFIX}",
    ]
    kept = cache / "models" / "m" / "int4"
    for folder in [*leftovers, kept]:
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    with writing(silent):
        assert not any(folder.exists() for folder in leftovers)
    assert (kept / "file").exists()


def test_discard_takes_files_folders_and_nothing(tmp_path: Path) -> None:
    """Discarding is done when the path is gone, whatever it was."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("x")
    (folder / "inner").mkdir(parents=True)
    for path in (file, folder, tmp_path / "absent"):
        discard(path)
        assert not path.exists()


def test_one_writer_at_a_time(cache: Path) -> None:
    """A second writer waits for the first, and says so."""
    assert cache == cache_root()
    reports: list[str] = []
    waiting, entered = threading.Event(), threading.Event()

    def second() -> None:
        def progress(what: str, _: float) -> None:
            reports.append(what)
            waiting.set()

        with writing(progress):
            entered.set()

    thread = threading.Thread(target=second)
    with writing(silent):
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert set(reports) == {"waiting for another import"}


def test_a_dead_writer_holds_no_lock(cache: Path) -> None:
    """The lock of a killed process is free at once."""
    script = (
        "import os, signal\nfrom rapport.models.cache import store\n"
        "with store.writing(lambda *_: None): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert (cache / ".lock").exists()
    reports: list[str] = []
    with writing(lambda what, _: reports.append(what)):
        assert reports == []
