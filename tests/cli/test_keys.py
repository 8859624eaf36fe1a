"""`rapport keys`, in this process and as processes of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rapport.cli import keys
from rapport.service.keys.key_file import load_keys
from rapport.service.keys.key_store import KeyStore

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the settings name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAPPORT_API_KEYS_FILE", str(tmp_path / "keys.toml"))
    return tmp_path / "keys.toml"


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; returns its status and what it wrote."""
    del path

    def running(*arguments: str) -> tuple[int, str, str]:
        status = keys.main(arguments)
        return status, *capsys.readouterr()

    return running


def test_a_key_is_printed_once_and_works(run: Run, path: Path) -> None:
    """The key is all that is printed, it lets in, and the file does not have it."""
    status, key, errors = run("add", "batch", "--models", "a, b", "--requests-per-minute", "60")
    assert (status, errors) == (0, "")
    assert key.startswith("rk-")
    assert len(key) > 40
    found = asyncio.run(KeyStore([], path).find(key.strip().encode()))
    assert found is not None
    assert found.models == ("a", "b")
    assert found.limits.requests_per_minute == 60
    assert key.strip() not in path.read_text()


def test_admin(run: Run, path: Path) -> None:
    """A key is one of an administrator where that is said."""
    run("add", "root", "--admin")
    run("add", "batch")
    assert {name: entry.admin for name, entry in load_keys(path).items()} == {
        "root": True,
        "batch": False,
    }
    assert [line.split()[2:] for line in run("list")[1].splitlines()] == [["admin"], []]


def test_no_two_keys_are_alike(run: Run) -> None:
    """Each key is new."""
    assert len({run("add", f"k{number}")[1] for number in range(10)}) == 10


def test_list(run: Run) -> None:
    """The list has names, the ids of logs, and what is particular; no key, and no hash."""
    assert run("list")[0] == 1
    _, key, _ = run("add", "one", "--models", "m", "--concurrent", "0")
    run("add", "two")
    status, listed, _ = run("list")
    assert status == 0
    one, two = listed.splitlines()
    name, id_, *terms = one.split()
    assert (name, terms) == ("one", ["models=m", "concurrent=0"])
    assert two.split()[0] == "two"
    found = asyncio.run(KeyStore([], Path("keys.toml")).find(key.strip().encode()))
    assert found is not None
    assert id_ == found.id
    assert key.strip() not in listed
    assert found.hash not in listed


def test_remove(run: Run, path: Path) -> None:
    """A key that is removed is gone, and only that."""
    run("add", "one")
    run("add", "two")
    assert run("remove", "one") == (0, "", "")
    assert load_keys(path).keys() == {"two"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "one"], "there is a key one in "),
        (["remove", "two"], "there is no key two in "),
        (["add", "two", "--concurrent", "-1"], "two.concurrent: Input should be greater than"),
        (["add", "two", "--file", "nowhere/keys.toml"], "No such file or directory"),
        (["list", "--file", "missing.toml"], "missing.toml: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, path: Path, arguments: list[str], message: str
) -> None:
    """Each mistake is reported in one line, and changes nothing."""
    run("add", "one")
    before = path.read_bytes()
    status, written, errors = run(*arguments)
    assert (status, written) == (1, "")
    assert errors.startswith("rapport keys: ")
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a b", "a.b", "x" * 65, "[a]"])
def test_names_are_simple(run: Run, name: str) -> None:
    """A name that TOML would have to quote is refused."""
    with pytest.raises(SystemExit):
        run("add", name)


def test_without_a_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file is named, the error says how to name one."""
    monkeypatch.delenv("RAPPORT_API_KEYS_FILE")
    status, _, errors = run("list")
    assert status == 1
    assert "--file or the setting api_keys_file" in errors


def test_none_is_lost_when_many_are_added_at_once(path: Path) -> None:
    """Processes that add keys at the same time each keep theirs."""
    command = [sys.executable, "-m", "rapport.cli.keys", "add"]
    adding = [
        subprocess.Popen([*command, f"k{number}", "--file", str(path)], stdout=subprocess.PIPE)
        for number in range(6)
    ]
    printed = [process.communicate()[0].strip() for process in adding]
    store = KeyStore([], path)
    assert all(asyncio.run(store.find(key)) for key in printed)
    assert load_keys(path).keys() == {f"k{number}" for number in range(6)}
    assert list(path.parent.iterdir()) == [path]
