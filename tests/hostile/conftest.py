"""Servers to attack, with several keys, and what must hold when they end."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from bench.server import rapport
from tests.faults.conftest import ACCOUNT
from tests.hostile.attacked import Attacked

# What the attackers' keys may do; the bystander's has no limits.
KEYS: dict[str, dict[str, int]] = {
    "bystander": {},
    "greedy": {},
    "second": {},
    "limited": {"requests_per_minute": 2, "concurrent": 1},
}
# Small, so that an attack soon meets its bounds.
SETTINGS: dict[str, object] = {
    "slots": 4,
    "max_waiting": 32,
    "max_ttft": 0,
    "read_timeout": 3,
    "reader_timeout": 3,
    "prefix_cache": "64MiB",
}

Serve = Callable[..., AbstractContextManager[Attacked]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Attacks need Linux: how large a process has been is read from /proc."""
    if sys.platform != "linux":
        for item in items:
            if "hostile" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="memory is read from /proc"))


def write_keys(path: Path) -> dict[str, str]:
    """Writes a file of `KEYS`. Returns the keys by their names."""
    keys = {name: f"rk-{name}-of-a-test" for name in KEYS}
    tables = []
    for name, key in keys.items():
        limits = "".join(f"{limit} = {value}\n" for limit, value in KEYS[name].items())
        tables.append(f'[{name}]\nhash = "{hashlib.sha256(key.encode()).hexdigest()}"\n{limits}')
    path.write_text("\n".join(tables))
    path.chmod(0o600)
    return keys


@pytest.fixture(scope="session")
def serve(cpu_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Starts `rapport serve` with keys and small settings, which the caller may change.

    It must end in time, with even accounts.
    """

    @contextmanager
    def started(**settings: object) -> Iterator[Attacked]:
        path = tmp_path_factory.mktemp("keys") / "keys.toml"
        keys = write_keys(path)
        chosen = SETTINGS | {"model_folder": cpu_folder, "api_keys_file": path} | settings
        with rapport(**chosen) as (server, target):
            yield Attacked(server, target, keys)
        found = ACCOUNT.search(server.last_words)
        assert found is not None, server.last_words
        accepted, finished, cancelled, failed, taken, released = map(int, found.groups())
        assert accepted == finished + cancelled + failed
        assert taken == released

    return started


@pytest.fixture(scope="session")
def attacked(serve: Serve) -> Iterator[Attacked]:
    """One server for all attacks that need no other settings."""
    with serve() as running:
        yield running
