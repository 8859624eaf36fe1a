"""What tests share: the real model, fetched once per machine, and real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from bench.server import Target, rapport
from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision, cpu_precisions
from tests.certificates import Authority
from tests.support.cuda_stub import isolation

HERE = Path(__file__).parent
MODEL = "smollm2-135m-instruct"

# The files that take longest, longest first. Each runs whole on one worker (`--dist loadfile`):
# begun last, one of these would leave the other worker idle.
LONGEST_FILES = (
    "recorded/test_recorded.py",
    "cli/test_serve.py",
    "service/test_process.py",
    "service/engine/test_determinism.py",
    "service/real/test_tools.py",
    "service/engine/test_engine_model.py",
    "faults/test_faults.py",
    "gateway/openapi/test_conformance.py",
    "models/test_importer.py",
    "common/telemetry/test_both.py",
    "service/engine/test_engine_drafts.py",
)

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest files; the order within a file and of the others stays.

    Tests that are marked `cuda_stub` run in a process of their own.
    """
    isolation.isolate(items)
    ranks = {HERE / name: rank for rank, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_configure(config: pytest.Config) -> None:
    isolation.configure(config)


@pytest.fixture(scope="session")
def cpu_folder() -> Path:
    """The default model as it is served on this machine's CPU."""
    return ensure(MODEL, cpu_precision())


@pytest.fixture(scope="session")
def int4_folder() -> Path:
    """The default model with the 4-bit weights of its file."""
    return ensure(MODEL, "int4")


@pytest.fixture(scope="session")
def int8_folder() -> Path:
    """The default model with weights of 8 bits."""
    return ensure(MODEL, "int8")


@pytest.fixture(scope="session")
def int8_cache_folder() -> Path:
    """The default model with keys and values in int8."""
    return ensure(MODEL, cpu_precisions(int8_cache=True)[0])


@pytest.fixture(scope="session")
def float32_folder() -> Path:
    """The default model in float32, the reference."""
    return ensure(MODEL, "float32")


@pytest.fixture(scope="session")
def prefill_folder() -> Path:
    """The default model with float32 layers, to compute prompts with."""
    return ensure(MODEL, "prefill")


@pytest.fixture(scope="session")
def float16_folder() -> Path:
    """The default model as it is served on a GPU."""
    return ensure(MODEL, "float16")


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """A CA of the test's own."""
    return Authority(tmp_path)


@pytest.fixture(scope="session")
def server(cpu_folder: Path) -> Iterator[Target]:
    """`rapport serve` as a real process on free ports, for tests that only call it."""
    del cpu_folder  # it is fetched before, so that the start is quick
    with rapport() as (_, target):
        yield target
