"""Servers whose first start finds no model folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from bench.server import Server, Target, rapport
from rapport.models.cache.catalog import known_model
from rapport.models.cache.store import PARTIAL_SUFFIX
from rapport.models.folder import FILES, is_current
from rapport.models.onnx.precision import cpu_precision
from tests.conftest import MODEL

SERVERS = 2
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture
def cache(cpu_folder: Path, tmp_path: Path) -> Path:
    """A cache that holds the model's source, so that no network is needed, and nothing else."""
    source = cpu_folder.parents[2] / "sources" / known_model(MODEL).file_name
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / source.name).symlink_to(source)
    return tmp_path


@pytest.fixture
def servers(cache: Path) -> Iterator[list[tuple[Server, Target]]]:
    """They start at the same time, and each is healthy."""
    with ExitStack() as stack, ThreadPoolExecutor(SERVERS) as threads:
        starting = [
            threads.submit(stack.enter_context, rapport(cache=cache)) for _ in range(SERVERS)
        ]
        yield [start.result() for start in starting]


def log_of(server: Server) -> str:
    """All of it so far. The place at which the server writes stays where it is."""
    return os.pread(server._log.fileno(), 1 << 20, 0).decode()


@pytest.mark.scale
def test_servers_that_start_at_once_share_one_import(
    cache: Path, servers: list[tuple[Server, Target]]
) -> None:
    """The folder is whole, made once, and what both answer from."""
    folder = cache / "models" / MODEL / cpu_precision()
    assert is_current(folder, known_model(MODEL).gguf_sha256)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert not list(cache.rglob(f"*{PARTIAL_SUFFIX}"))
    assert sum(log_of(server).count("checking the source") for server, _ in servers) == 1
    for _, target in servers:
        reply = httpx.post(f"{target.rest}/v1/chat/completions", json=ASKED, timeout=60)
        assert reply.status_code == 200
