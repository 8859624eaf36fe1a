from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from rapport.service.keys.key_file import KeyFileError
from rapport.service.keys.key_store import CHECK_INTERVAL_S, KeyStore, hash_key
from rapport.service.keys.limits import KeyLimits


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def write(path: Path, text: str) -> None:
    """As editors do, in place of the old one."""
    new = path.with_name("new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(path)


def table(key: str, *lines: str) -> str:
    return "\n".join([f"[{key}]", f'hash = "{hash_key(key.encode())}"', *lines, ""])


def test_keys_of_the_settings() -> None:
    """Without a file the keys are those of the settings, with the limits by default."""
    store = KeyStore(["a", "b"], defaults=KeyLimits(concurrent=3))
    found = store.find(b"b")
    assert found is not None
    assert (found.limits, found.models) == (KeyLimits(concurrent=3), None)
    assert store.find(b"c") is None
    assert store.find(b"") is None


def test_keys_of_both(path: Path) -> None:
    """Keys of the file stand beside those of the settings; no two have one id."""
    write(path, table("filed", 'models = ["m"]', "concurrent = 0"))
    store = KeyStore(["given"], path, KeyLimits(concurrent=3, user_concurrent=4))
    filed, given = store.find(b"filed"), store.find(b"given")
    assert filed is not None
    assert given is not None
    assert filed.id != given.id
    assert (filed.models, filed.limits) == (("m",), KeyLimits(user_concurrent=4))


def test_the_file_hides_the_settings(path: Path) -> None:
    """For a key that is in both, the file holds; its id stays what it was."""
    before = KeyStore(["a"]).find(b"a")
    write(path, table("a", "concurrent = 1"))
    after = KeyStore(["a"], path).find(b"a")
    assert before is not None
    assert after is not None
    assert (after.id, after.limits.concurrent) == (before.id, 1)


def test_disabled(path: Path) -> None:
    """A disabled key lets nobody in, also if the settings have it."""
    write(path, table("a", "disabled = true"))
    assert KeyStore(["a"], path).find(b"a") is None


def test_a_hash_is_no_key(path: Path) -> None:
    """Who has read the file cannot get in with what is there."""
    write(path, table("a"))
    store = KeyStore([], path)
    assert store.find(hash_key(b"a").encode()) is None


@pytest.mark.parametrize("text", [None, "[x"])
def test_a_service_does_not_start_without_the_file(path: Path, text: str | None) -> None:
    """A file that is missing or broken at the start is an error, told with its path."""
    if text is not None:
        write(path, text)
    with pytest.raises(KeyFileError, match=str(path)):
        KeyStore(["a"], path)


def test_changes_are_seen(path: Path, clock: Clock) -> None:
    """Keys that come, change and go in the file do so here within a second."""
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    write(path, table("a", "concurrent = 7") + table("b"))
    assert store.find(b"b") is None
    clock.now += CHECK_INTERVAL_S
    assert store.find(b"b") is not None
    found = store.find(b"a")
    assert found is not None
    assert found.limits.concurrent == 7
    write(path, table("b"))
    clock.now += CHECK_INTERVAL_S
    assert store.find(b"a") is None


def test_a_change_in_place_is_seen(path: Path, clock: Clock) -> None:
    """A file that is written over, with as many bytes, is another."""
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    path.write_text(table("b"))
    # The clock of the file system may be coarse.
    os.utime(path, ns=(0, 0))
    clock.now += CHECK_INTERVAL_S
    assert store.find(b"a") is None
    assert store.find(b"b") is not None


def test_the_file_is_read_when_it_changed_only(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many keys are sought, a file that stays is not read again."""
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    monkeypatch.setattr(
        "rapport.service.keys.key_store.load_keys", lambda _: pytest.fail("it is read")
    )
    for _ in range(5):
        clock.now += CHECK_INTERVAL_S
        assert store.find(b"a") is not None


@pytest.mark.parametrize("text", [None, "[x", "[a]\nhash = 'x'\n"])
def test_what_breaks_later_changes_nothing(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    """While the file is broken or away the last good keys hold, which is told once."""
    caplog.set_level(logging.ERROR)
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    for round_ in (1, 2):
        if text is None:
            path.unlink()
        else:
            write(path, text)
        for _ in range(3):
            clock.now += CHECK_INTERVAL_S
            assert store.find(b"a") is not None
        (line,) = caplog.messages
        assert line.startswith(f"API keys stay as they were: {path}: "), round_
        caplog.clear()
        write(path, table("a"))
        clock.now += CHECK_INTERVAL_S
        assert store.find(b"a") is not None
    assert not caplog.messages


def test_no_key_is_in_a_log(path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A key that was written in the place of its hash is not shown."""
    write(path, table("a"))
    store = KeyStore(["given"], path, clock=clock)
    write(path, "[b]\nhash = 'rk-secret'\n")
    clock.now += CHECK_INTERVAL_S
    store.find(b"shown")
    assert "b.hash" in caplog.text
    assert not any(word in caplog.text for word in ("rk-secret", "given", "shown"))
