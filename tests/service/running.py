"""A real server, and the real model's engine behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rapport.common.metrics.certificates import Certificates
from rapport.common.telemetry.traces import Untraced
from rapport.service.config import ServiceSettings
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.runtime.providers import choose_provider
from rapport.service.interceptors.tracing import trace_with
from rapport.service.lifecycle import Lifecycle, ServedModel
from rapport.service.process import start_engine
from rapport.service.server import Server


@asynccontextmanager
async def listening(settings: ServiceSettings, lifecycle: Lifecycle) -> AsyncIterator[str]:
    """Gives the server's address."""
    server = Server(settings, lifecycle, trace_with(Untraced()))
    port = await server.listen(Certificates("rapport"))
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@asynccontextmanager
async def loaded_engine(folder: Path, lifecycle: Lifecycle) -> AsyncIterator[Engine]:
    """All its requests must come to an end."""
    config = EngineConfig(slots=4)
    engine = await asyncio.to_thread(Engine.load, folder, choose_provider("cpu"), config)
    served = ServedModel.load(folder, engine)
    start_engine(served, lifecycle)
    yield engine
    await engine.drain(0)
    await engine.stop()
    served.formats.close()
    counters = engine.counters
    assert counters.accepted == counters.finished + counters.cancelled + counters.failed
