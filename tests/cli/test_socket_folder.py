"""The folder in which the parts meet."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from rapport.cli.socket_folder import FALLBACK, SOCKET_NAME, socket_folder
from rapport.common.settings import MAX_SOCKET_PATH_BYTES


def test_the_folder_is_private() -> None:
    """Only this user can enter it, whatever the umask, and it is gone in the end."""
    umask = os.umask(0)
    try:
        with socket_folder() as folder:
            path = Path(folder)
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert path.parent == Path(tempfile.gettempdir())
            (path / SOCKET_NAME).touch()
    finally:
        os.umask(umask)
    assert not path.exists()


def test_a_long_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the path of the socket would be too long, the folder is elsewhere."""
    deep = tmp_path / ("x" * MAX_SOCKET_PATH_BYTES)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with socket_folder() as folder:
        assert Path(folder).parent == FALLBACK
        assert len(os.fsencode(Path(folder, SOCKET_NAME))) <= MAX_SOCKET_PATH_BYTES
