from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from rapport.service.keys import key_file as module
from rapport.service.keys.key_file import (
    KeyEntry,
    KeyFileError,
    edit_key_file,
    load_keys,
    parse_keys,
)

ONE, TWO = "1" * 64, "2" * 64
COMMENTED = f"""\
# Ours.
[batch]   # at night
hash = "{ONE}"
requests_per_minute = 60
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def add(path: Path, name: str, digits: str = TWO) -> None:
    with edit_key_file(path) as document:
        document[name] = tomlkit.item({"hash": digits})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_of_an_entry() -> None:
    """An entry has a hash, and may have models, limits and an end."""
    text = (
        f'[a]\nhash = "{ONE}"\nmodels = ["m"]\nconcurrent = 2\ndisabled = true\n[b]\nhash="{TWO}"'
    )
    entries = parse_keys(text)
    assert entries["a"] == KeyEntry(hash=ONE, models=["m"], concurrent=2, disabled=True)
    assert (entries["b"].models, entries["b"].disabled) == (None, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'[a]\nhash = "{ONE}"\n[a]\n', r"\(at line 3, column 3\)"),
        ("[a]\nhash = 'x'", "a.hash: String should match"),
        ("[a]\n", "a.hash: Field required"),
        (f'[a]\nhash = "{ONE.replace("1", "A")}"', "a.hash: String should match"),
        (f'[a]\nhash = "{ONE}"\nrequest_per_minute = 1', "a.request_per_minute: Extra inputs"),
        (f'[a]\nhash = "{ONE}"\nconcurrent = -1', "a.concurrent: Input should be greater"),
        (
            f'[a]\nhash = "{ONE}"\nconcurrent = true',
            "a.concurrent: Input should be a valid integer",
        ),
        (f'[a]\nhash = "{ONE}"\nmodels = "m"', "a.models: Input should be a valid list"),
        (f'["a b"]\nhash = "{ONE}"', r"a b\.\[key\]: String should match"),
        ("a = 1", "a: Input should be a valid dictionary"),
        (f'[a]\nhash = "{ONE}"\n[b]\nhash = "{ONE}"', "b: its hash is that of a"),
        ("a = " + "[" * 100_000, "it is nested too deeply"),
        ("a = " + "9" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(text: str, expected: str) -> None:
    """No mistake is overlooked; each is reported with the line, or the key and field."""
    with pytest.raises(KeyFileError, match=expected) as raised:
        parse_keys(text)
    assert "\n" not in str(raised.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing that a file may hold ends in another error."""
    with suppress(KeyFileError):
        parse_keys(text)


def test_what_cannot_be_read_is_told_with_its_name(path: Path) -> None:
    """A file that is missing, a folder, or no text is reported by its path."""
    for content in (None, b"\xff"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(KeyFileError, match=str(path)):
            load_keys(path)
    with pytest.raises(KeyFileError, match="Is a directory"):
        load_keys(path.parent)
    with pytest.raises(KeyFileError, match="/dev/zero: it is not a regular file"):
        load_keys(Path("/dev/zero"))


def test_a_file_that_is_written_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a file may be a file of fewer keys: what changes while it is read is not used."""
    path.write_text(COMMENTED)
    path.chmod(0o600)
    fstat, statuses = os.fstat, []

    def fstat_and_write(descriptor: int) -> os.stat_result:
        statuses.append(fstat(descriptor))
        if len(statuses) == 1:
            path.write_text(COMMENTED * 2)
        return statuses[-1]

    monkeypatch.setattr(module.os, "fstat", fstat_and_write)
    with pytest.raises(KeyFileError, match="it was written while it was read"):
        load_keys(path)


def test_a_file_that_is_too_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be a file of keys does not fill the memory."""
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1 << 20)
    path.write_text("#" * ((1 << 20) + 1))
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="it is larger than 1 MiB"):
        load_keys(path)


@pytest.mark.parametrize("others", [0o620, 0o602])
def test_a_file_that_others_may_write_is_not_trusted(path: Path, others: int) -> None:
    """Who may write the file may let themselves in, so it is refused."""
    path.write_text(COMMENTED)
    path.chmod(others)
    with pytest.raises(KeyFileError, match="others may write to it"):
        load_keys(path)
    with pytest.raises(KeyFileError, match="others may write to it"):
        add(path, "more")


def test_a_file_that_all_may_read_is_told_of(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Hashes give no key away, so it is read, with a warning."""
    path.write_text(COMMENTED)
    path.chmod(0o644)
    assert load_keys(path).keys() == {"batch"}
    assert f"{path} is readable by everybody" in caplog.text
    caplog.clear()
    path.chmod(0o640)
    load_keys(path)
    assert not caplog.text


def test_a_new_file_is_the_owners_alone(path: Path) -> None:
    """Whatever the umask, nobody else reads a file that is made here."""
    with umask(0):
        add(path, "first")
    assert mode(path) == 0o600
    assert load_keys(path)["first"].hash == TWO


def test_a_change_keeps_comments_and_mode(path: Path) -> None:
    """What people wrote into the file stays, and who may read it does."""
    path.write_text(COMMENTED)
    path.chmod(0o640)
    add(path, "more")
    assert path.read_text().startswith(COMMENTED)
    assert load_keys(path).keys() == {"batch", "more"}
    assert mode(path) == 0o640


def test_a_link_stays_one(path: Path) -> None:
    """The file behind a link is changed, not the link."""
    real = path.with_name("real.toml")
    real.write_text(COMMENTED)
    real.chmod(0o600)
    path.symlink_to(real)
    add(path, "more")
    assert path.is_symlink()
    assert load_keys(real).keys() == {"batch", "more"}


def test_a_broken_file_is_not_changed(path: Path) -> None:
    """Neither is a broken file written over, nor a whole one broken."""
    path.write_text("[x\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="at line 1"):
        add(path, "more")
    assert path.read_text() == "[x\n"
    path.write_text(COMMENTED)
    with pytest.raises(KeyFileError, match=r"more\.hash"):
        add(path, "more", "no hash")
    assert path.read_text() == COMMENTED


def test_a_disk_that_is_full_harms_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new file cannot be written the old one stays, and nothing is left behind."""
    path.write_text(COMMENTED)
    path.chmod(0o600)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(KeyFileError, match="No space left on device"):
        add(path, "more")
    assert path.read_text() == COMMENTED
    assert list(path.parent.iterdir()) == [path]


# Each change waits for the disk.
@settings(max_examples=20)
@given(
    st.dictionaries(
        st.from_regex(module.KEY_NAME, fullmatch=True),
        st.builds(
            dict,
            models=st.lists(st.text(max_size=9), max_size=3),
            disabled=st.booleans(),
            concurrent=st.integers(0, 2**40),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, dict[str, object]]
) -> None:
    """Entries of any names, models and limits come back as they were given."""
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    given = {
        name: {"hash": f"{number:064x}", **fields}
        for number, (name, fields) in enumerate(entries.items())
    }
    for name, fields in given.items():
        with edit_key_file(path) as document:
            document[name] = tomlkit.item(fields)
    read = load_keys(path) if given else {}
    assert read == {name: KeyEntry.model_validate(fields) for name, fields in given.items()}
    for name in given:
        with edit_key_file(path) as document:
            del document[name]
    assert not given or load_keys(path) == {}
