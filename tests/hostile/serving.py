"""`rapport serve` with several keys and small settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def serving(model_folder: Path, keys_folder: Path, **settings: object) -> Iterator[Attacked]:
    """A server with `KEYS`. It must end in time, with even accounts."""
    path = keys_folder / "keys.toml"
    keys = write_keys(path)
    chosen = SETTINGS | {"model_folder": model_folder, "api_keys_file": path} | settings
    with rapport(**chosen) as (server, target):
        yield Attacked(server, target, keys)
    found = ACCOUNT.search(server.last_words)
    assert found is not None, server.last_words
    accepted, finished, cancelled, failed, taken, released = map(int, found.groups())
    assert accepted == finished + cancelled + failed
    assert taken == released


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
