from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from rapport.service.keys import key_store
from rapport.service.keys.key_file import KeyEntries, KeyFileError, load_keys
from rapport.service.keys.key_store import CHECK_INTERVAL_S, KeyStore, hash_key
from rapport.service.keys.limits import KeyLimits


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to read a file: what is found waits for it."""
    monkeypatch.setattr(key_store, "MAX_WAIT_S", 20.0)


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


def write_over(path: Path, text: str) -> None:
    path.write_text(text)
    # The clock of the file system may be coarse.
    os.utime(path, ns=(0, 0))


def replace(path: Path, kind: str) -> None:
    """Puts something that is no file in its place, or nothing."""
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")


def table(key: str, *lines: str) -> str:
    return "\n".join([f"[{key}]", f'hash = "{hash_key(key.encode())}"', *lines, ""])


async def test_keys_of_the_settings() -> None:
    """Without a file the keys are those of the settings, with the limits by default."""
    store = KeyStore(["a", "b"], defaults=KeyLimits(concurrent=3))
    found = await store.find(b"b")
    assert found is not None
    assert (found.limits, found.models) == (KeyLimits(concurrent=3), None)
    assert await store.find(b"c") is None
    assert await store.find(b"") is None


async def test_keys_of_both(path: Path) -> None:
    """Keys of the file stand beside those of the settings; no two have one id."""
    write(path, table("filed", 'models = ["m"]', "concurrent = 0"))
    store = KeyStore(["given"], path, KeyLimits(concurrent=3, user_concurrent=4))
    filed, given = await store.find(b"filed"), await store.find(b"given")
    assert filed is not None
    assert given is not None
    assert filed.id != given.id
    assert (filed.models, filed.limits) == (("m",), KeyLimits(user_concurrent=4))


async def test_the_file_hides_the_settings(path: Path) -> None:
    """For a key that is in both, the file holds; its id stays what it was."""
    before = await KeyStore(["a"]).find(b"a")
    write(path, table("a", "concurrent = 1"))
    after = await KeyStore(["a"], path).find(b"a")
    assert before is not None
    assert after is not None
    assert (after.id, after.limits.concurrent) == (before.id, 1)


async def test_disabled(path: Path) -> None:
    """A disabled key lets nobody in, also if the settings have it."""
    write(path, table("a", "disabled = true"))
    assert await KeyStore(["a"], path).find(b"a") is None


async def test_a_hash_is_no_key(path: Path) -> None:
    """Who has read the file cannot get in with what is there."""
    write(path, table("a"))
    store = KeyStore([], path)
    assert await store.find(hash_key(b"a").encode()) is None


@pytest.mark.parametrize("text", [None, "[x"])
def test_a_service_does_not_start_without_the_file(path: Path, text: str | None) -> None:
    """A file that is missing or broken at the start is an error, reported with its path."""
    if text is not None:
        write(path, text)
    with pytest.raises(KeyFileError, match=str(path)):
        KeyStore(["a"], path)


async def test_changes_are_seen(path: Path, clock: Clock) -> None:
    """Keys that come, change and go in the file do so here within a second."""
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    write(path, table("a", "concurrent = 7") + table("b"))
    assert await store.find(b"b") is None
    clock.now += CHECK_INTERVAL_S
    assert await store.find(b"b") is not None
    found = await store.find(b"a")
    assert found is not None
    assert found.limits.concurrent == 7
    write(path, table("b"))
    clock.now += CHECK_INTERVAL_S
    assert await store.find(b"a") is None


async def test_a_change_in_place_is_seen(path: Path, clock: Clock) -> None:
    """A file that is written over, with as many bytes, is another."""
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    write_over(path, table("b"))
    clock.now += CHECK_INTERVAL_S
    assert await store.find(b"a") is None
    assert await store.find(b"b") is not None


async def test_the_file_is_read_when_it_changed_only(
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
        assert await store.find(b"a") is not None


DEEP = "a = " + "[" * 100_000


@pytest.mark.parametrize("text", [None, "[x", "[a]\nhash = 'x'\n", DEEP, "a = " + "9" * 5000])
async def test_what_breaks_later_changes_nothing(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    """While the file is broken or away the last good keys hold, which is reported once."""
    caplog.set_level(logging.ERROR)
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    for round_ in (1, 2):
        replace(path, "nothing") if text is None else write(path, text)
        for _ in range(3):
            clock.now += CHECK_INTERVAL_S
            assert await store.find(b"a") is not None
        (line,) = caplog.messages
        assert line.startswith(f"API keys stay as they were: {path}: "), round_
        caplog.clear()
        write(path, table("a"))
        clock.now += CHECK_INTERVAL_S
        assert await store.find(b"a") is not None
    assert not caplog.messages


async def test_no_key_is_in_a_log(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that was written in the place of its hash is not shown."""
    write(path, table("a"))
    store = KeyStore(["given"], path, clock=clock)
    write(path, "[b]\nhash = 'rk-secret'\n")
    clock.now += CHECK_INTERVAL_S
    await store.find(b"shown")
    assert "b.hash" in caplog.text
    assert not any(word in caplog.text for word in ("rk-secret", "given", "shown"))


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
async def test_what_is_no_file_changes_nothing(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """A FIFO, a folder or a device in the file's place is not waited for, and the keys stay."""
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    replace(path, kind)
    for _ in range(2):
        clock.now += CHECK_INTERVAL_S
        assert await store.find(b"a") is not None
    [line] = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith(f"API keys stay as they were: {path}: ")


async def test_a_file_that_takes_long_is_not_waited_for(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a large file is read the keys from before hold, and the event loop goes on."""
    write(path, table("a"))
    store = KeyStore([], path, clock=clock)
    is_read = threading.Event()

    def slowly(path: Path) -> KeyEntries:
        assert is_read.wait(20)
        return load_keys(path)

    monkeypatch.setattr(key_store, "load_keys", slowly)
    monkeypatch.setattr(key_store, "MAX_WAIT_S", 0.01)
    write(path, table("b"))
    clock.now += CHECK_INTERVAL_S
    assert await store.find(b"a") is not None
    assert await store.find(b"b") is None
    is_read.set()
    monkeypatch.setattr(key_store, "MAX_WAIT_S", 20.0)
    assert await store.find(b"b") is not None
    assert await store.find(b"a") is None


async def test_among_many_keys() -> None:
    """A key is found among many as quickly as among few: it is compared with no other."""
    few, many = KeyStore(["a", "b"]), KeyStore([f"key {number}" for number in range(50_000)])
    assert await many.find(b"key 49999") is not None

    async def quickest_s(store: KeyStore) -> float:
        times = []
        for _ in range(20):
            began = time.perf_counter()
            await store.find(b"unknown")
            times.append(time.perf_counter() - began)
        return min(times)

    assert await quickest_s(many) < 50 * await quickest_s(few)
