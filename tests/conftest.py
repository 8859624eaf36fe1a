"""What tests share: the real model, fetched once per machine, and real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.importer import ensure

MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def int4_folder() -> Path:
    """The default model as it is served on a CPU."""
    return ensure(MODEL, "int4")


@pytest.fixture(scope="session")
def float32_folder() -> Path:
    """The default model in float32, the reference."""
    return ensure(MODEL, "float32")


@pytest.fixture(scope="session")
def float16_folder() -> Path:
    """The default model as it is served on a GPU."""
    return ensure(MODEL, "float16")
