"""Files are read from the folder that is given, and from no other place."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from rapport.models.errors import CorruptFileError
from rapport.models.genai import folder as module
from rapport.models.genai.folder import SourceFolder


class Config(BaseModel):
    size: int


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/etc/passwd", "b/c", "missing", "sub"])
def test_only_files_of_the_folder(tmp_path: Path, name: str) -> None:
    """A name is that of a file in the folder."""
    (tmp_path / "sub").mkdir()
    with pytest.raises(CorruptFileError):
        SourceFolder(tmp_path).file(name)


def test_links(tmp_path: Path) -> None:
    """A link may lead to another file of the folder, not out of it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("text")
    (folder / "b").symlink_to("a")
    (folder / "c").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    source = SourceFolder(folder)
    assert source.text("b") == "text"
    source.check(["a", "b", "none", "none/c"])
    with pytest.raises(CorruptFileError, match="a link to outside of the folder"):
        source.check(["c"])
    with pytest.raises(CorruptFileError, match="a link to outside of the folder"):
        source.text("c")


def test_a_snapshot_of_a_cache(tmp_path: Path) -> None:
    """In Hugging Face's cache, the files of a snapshot are links to blobs."""
    snapshot = tmp_path / "models--owner--name/snapshots/abc"
    blobs = snapshot.parents[1] / "blobs"
    for path in (snapshot, blobs):
        path.mkdir(parents=True)
    (blobs / "123").write_text("text")
    (snapshot / "a").symlink_to("../../blobs/123")
    assert SourceFolder(snapshot).text("a") == "text"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "EOF"),
        ("[]", "object"),
        ("{}", "size: Field required"),
        ('{"size": "x"}', "size: Input should be a valid integer"),
        ('{"size": ' * 10_000, "recursion"),
    ],
)
def test_json(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong with a file of JSON is said with its place."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CorruptFileError, match=message) as raised:
        SourceFolder(tmp_path).json("a.json", Config)
    assert str(tmp_path / "a.json") in str(raised.value)


def test_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large, or in no known encoding, is refused."""
    monkeypatch.setattr(module, "MAX_TEXT_BYTES", 2)
    (tmp_path / "a").write_bytes(b"\xff\xff")
    (tmp_path / "b").write_text("abc")
    source = SourceFolder(tmp_path)
    with pytest.raises(CorruptFileError, match="not UTF-8"):
        source.text("a")
    with pytest.raises(CorruptFileError, match="has 3 bytes; 2 at most"):
        source.text("b")
