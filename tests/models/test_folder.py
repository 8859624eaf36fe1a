"""A model folder is complete and says what the engine must know."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rapport.models.folder import FILES, is_current
from tests.models.conftest import SOURCE


def test_whole_folder_is_current(folder: Path) -> None:
    """A folder just written is current, for the file that it was made from."""
    assert is_current(folder)
    assert is_current(folder, SOURCE["gguf_sha256"])
    assert not is_current(folder, "cd" * 32)


@pytest.mark.parametrize("name", FILES)
def test_folder_that_lacks_a_file_is_not_current(folder: Path, name: str) -> None:
    """Whichever file is gone, the folder counts as absent."""
    (folder / name).unlink()
    assert not is_current(folder)


@pytest.mark.parametrize("name", FILES)
def test_folder_with_a_truncated_file_is_not_current(folder: Path, name: str) -> None:
    """Whichever file is cut short, the folder counts as absent, and so is made anew."""
    path = folder / name
    os.truncate(path, path.stat().st_size // 2)
    assert not is_current(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 0, "source": {}}'])
def test_folder_of_another_format_is_not_current(folder: Path, content: str) -> None:
    """A description that is damaged, or of an older Rapport, counts as absent."""
    (folder / "model.json").write_text(content)
    assert not is_current(folder)


def test_older_format_is_not_current(folder: Path) -> None:
    """A folder of an older format is to be made anew."""
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | {"format": 0}))
    assert not is_current(folder)
