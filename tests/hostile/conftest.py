"""Servers to attack, and what must hold when they end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.hostile.attacked import Attacked
from tests.hostile.serving import serving

# The tiny model takes as long for a step as the real one does, without the processor's time.
PACE: dict[str, object] = {"inject_faults": True, "faults": "decode:delay=0.02"}

Serve = Callable[..., AbstractContextManager[Attacked]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Attacks need Linux: how large a process has been is read from /proc."""
    if sys.platform != "linux":
        for item in items:
            if "hostile" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="memory is read from /proc"))


@pytest.fixture(scope="session")
def serve(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Starts `rapport serve` with keys and small settings, which the caller may change."""
    return partial(serving, small_folder, tmp_path_factory.mktemp("keys"), **PACE)


@pytest.fixture(scope="session")
def attacked(serve: Serve) -> Iterator[Attacked]:
    """One server for all attacks that need no other settings."""
    with serve() as running:
        yield running
