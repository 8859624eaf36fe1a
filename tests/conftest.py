"""What tests share: the real model, fetched once per machine, and real servers."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from bench.server import Target, rapport
from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision, cpu_precisions
from tests.certificates import Authority
from tests.support.cuda_stub import isolation
from tests.tiny import write_small_folder, write_tiny_folder

HERE = Path(__file__).parent
MODEL = "smollm2-135m-instruct"

# The files that take longest, longest first. Each runs whole on one worker (`--dist loadfile`):
# begun last, one of these would leave the other worker idle.
LONGEST_FILES = (
    "recorded/test_recorded.py",
    "cli/test_serve.py",
    "hostile/test_parts.py",
    "service/test_process.py",
    "service/engine/test_determinism.py",
    "service/engine/test_engine_model.py",
    "faults/test_faults.py",
    "gateway/openapi/test_conformance.py",
    "hostile/test_http.py",
    "hostile/test_requests.py",
    "gateway/openapi/test_schemas.py",
    "models/test_importer.py",
)

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps the garbage collector from the tests as they are collected, and from then on.

    To go through thousands of them again and again takes a third of the collection's time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


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


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model under the default model's name, for tests of all but what a model says.

    Its tokens are bytes. It starts faster and computes next to nothing.
    """
    return write_tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def small_folder(cpu_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the default model's name, tokenizer and template.

    For tests in which prompts, tokens and grammars are the real ones.
    """
    return write_small_folder(tmp_path_factory.mktemp("small"), cpu_folder)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """A CA of the test's own."""
    return Authority(tmp_path)


@pytest.fixture(scope="session")
def server(small_folder: Path) -> Iterator[Target]:
    """`rapport serve` as a real process on free ports, for tests that only call it."""
    with rapport(model_folder=small_folder) as (_, target):
        yield target
