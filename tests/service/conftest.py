"""A real grpc.aio server, in front of a scripted engine, on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.engine import Engine
from rapport.service.lifecycle import Lifecycle
from tests.service.fakes import ScriptedEngine, served
from tests.service.running import listening, loaded_engine


@pytest.fixture
def settings() -> ServiceSettings:
    return load(ServiceSettings, ["--grpc-port", "0"])


@pytest.fixture
async def lifecycle() -> Lifecycle:
    return Lifecycle()


@pytest.fixture
async def engine(lifecycle: Lifecycle) -> ScriptedEngine:
    """The engine behind the server, which is open from here on."""
    engine = ScriptedEngine()
    lifecycle.start_serving(served(engine))
    return engine


@pytest.fixture
async def address(settings: ServiceSettings, lifecycle: Lifecycle) -> AsyncIterator[str]:
    async with listening(settings, lifecycle) as address:
        yield address


@pytest.fixture
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel


@pytest.fixture
async def real_engine(cpu_folder: Path, lifecycle: Lifecycle) -> AsyncIterator[Engine]:
    """The real model's engine behind the server."""
    async with loaded_engine(cpu_folder, lifecycle) as engine:
        yield engine
