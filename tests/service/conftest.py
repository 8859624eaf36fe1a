"""A real grpc.aio server, in front of a scripted engine, on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from rapport_metrics.certificates import Certificates
from rapport_settings.base import load
from rapport_telemetry.traces import Untraced
from service.config import ServiceSettings
from service.engine.engine import Engine, EngineConfig
from service.engine.providers import choose_provider
from service.lifecycle import Lifecycle, Served
from service.process import serve
from service.server import build_server, listen
from service.spans import trace_with
from tests.service.fakes import ScriptedEngine, served


@pytest.fixture
def settings() -> ServiceSettings:
    return load(ServiceSettings, ["--grpc-port", "0"])


@pytest.fixture
async def lifecycle() -> Lifecycle:
    lifecycle = Lifecycle()
    await lifecycle.begin()
    return lifecycle


@pytest.fixture
async def engine(lifecycle: Lifecycle) -> ScriptedEngine:
    """The engine behind the server, which is open from here on."""
    engine = ScriptedEngine()
    await lifecycle.open(served(engine))
    return engine


@pytest.fixture
async def address(settings: ServiceSettings, lifecycle: Lifecycle) -> AsyncIterator[str]:
    server = build_server(settings, lifecycle, trace_with(Untraced()))
    port = await listen(server, settings, Certificates("rapport"))
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel


@pytest.fixture
async def real_engine(cpu_folder: Path, lifecycle: Lifecycle) -> AsyncIterator[Engine]:
    """The real model's engine behind the server; all its requests must come to an end."""
    config = EngineConfig(slots=4)
    engine = await asyncio.to_thread(Engine.load, cpu_folder, choose_provider("cpu"), config)
    await serve(Served.load(cpu_folder, engine), lifecycle)
    yield engine
    await engine.drain(0)
    await engine.stop()
    counters = engine.counters
    assert counters.accepted == counters.finished + counters.cancelled + counters.failed
