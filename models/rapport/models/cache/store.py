"""The cache on disk: its folders, and how they are written whole or not at all.

    $RAPPORT_CACHE, or rapport in $XDG_CACHE_HOME or in ~/.cache
    ├── sources/<gguf file>
    └── models/<model id>/<precision>/

Everything is written under a hidden name that ends in .partial, beside its final place, and is
renamed when it is on disk. Only the holder of the cache's lock writes, so a .partial that it finds
was left by a process that died.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rapport.models.progress import Progress

PARTIAL_SUFFIX = ".partial"

if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[bytes]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def cache_root() -> Path:
    if root := os.environ.get("RAPPORT_CACHE"):
        return Path(root).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "rapport"


def sources_folder() -> Path:
    return cache_root() / "sources"


def model_folder(model_id: str, precision: str) -> Path:
    return cache_root() / "models" / model_id / precision


@contextmanager
def writing(progress: Progress) -> Iterator[None]:
    """Waits for the cache's lock, deletes what dead processes left, and holds the lock."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("ab") as lock:
        while not try_lock(lock):
            progress("waiting for another import", 0.0)
            time.sleep(0.1)
        for leftover in [
            *root.glob(f"sources/.*{PARTIAL_SUFFIX}"),
            *root.glob(f"models/*/.*{PARTIAL_SUFFIX}"),
        ]:
            discard(leftover)
        yield


@contextmanager
def partial_folder(final: Path) -> Iterator[Path]:
    """A new folder beside `final`, which is deleted afterwards unless it was renamed."""
    folder = _partial_name(final)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        discard(folder)
        _remove_if_empty(folder.parent)


def publish(partial: Path, final: Path) -> None:
    """Moves a finished file or folder to `final`, in place of what is there."""
    for path in [*partial.iterdir(), partial] if partial.is_dir() else [partial]:
        _flush(path)
    if final.is_dir():
        # Renaming cannot replace a folder. If the process dies in between, there is no folder, but
        # never half of one.
        old = _partial_name(final)
        final.rename(old)
        try:
            partial.rename(final)
        finally:
            discard(old)
    else:
        partial.replace(final)
    _flush(final.parent)


def remove(folder: Path) -> None:
    """Removes a finished model folder, whole or not at all; the caller holds the lock.

    Raises:
        OSError: it cannot be removed.
    """
    old = _partial_name(folder)
    folder.rename(old)
    discard(old)
    _remove_if_empty(folder.parent)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it has precisions
        folder.rmdir()


def _partial_name(final: Path) -> Path:
    return final.with_name(f".{final.name}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}")


def _flush(path: Path) -> None:
    """Makes sure that a file or the entries of a folder are on disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
