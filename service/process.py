"""The service as a process: listens, loads the model, serves, drains."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from pathlib import Path

from service.config import ServiceSettings
from service.engine.engine import Engine, EngineConfig
from service.engine.faults import parse_faults
from service.engine.providers import Provider, choose_provider
from service.lifecycle import Lifecycle, Served
from service.server import build_server, listen

logger = logging.getLogger("rapport.service")

# Ctrl-C reaches a whole group of processes, and then a parent passes it on as well:
# signals that follow this soon, in seconds, are the same wish.
SAME_WISH = 1.0
# Seconds for the last messages of ended answers to leave.
FLUSH = 1.0
# Seconds that a thread may go on while another wants to. The engine's thread waits that long
# after each call into the runtime while the event loop is busy; Python's own 5 ms are longer
# than a step of a small model.
SWITCH_INTERVAL = 0.0002


async def run(settings: ServiceSettings, folder: Path) -> None:
    """Serves until a signal comes, then lets running answers finish.

    Raises:
        PortTakenError: the address cannot be listened on.
        ProviderError: the provider that was asked for cannot run here.
        OSError, ValueError: the model folder cannot be used.
    """
    stopping = catch_signals()
    lifecycle = Lifecycle()
    await lifecycle.begin()
    server = build_server(settings, lifecycle)
    try:
        port = await listen(server, settings)
        logger.info("gRPC on %s:%s", settings.address, port)
        served = await load(settings, folder)
        settle()
        await serve(served, lifecycle)
        await stopping.wait()
        await drain(lifecycle, served.engine, settings.shutdown_grace)
    finally:
        await server.stop(FLUSH)


def settle() -> None:
    """Makes the process ready for steps of a few milliseconds."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    # What is loaded stays: to look through it for garbage would stop all streams.
    gc.collect()
    gc.freeze()


async def load(settings: ServiceSettings, folder: Path) -> Served:
    """Loads the model beside the event loop, which answers that it is loading."""
    config = EngineConfig(
        slots=settings.slots,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        max_ttft=settings.max_ttft,
        kv_budget_bytes=settings.kv_budget,
        prefix_bytes=settings.prefix_cache,
        itl_target=settings.itl_target,
        drafts=settings.drafts,
        threads=settings.threads,
        deterministic=settings.deterministic,
        faults=parse_faults(settings.faults),
    )
    if config.faults:
        logger.warning("faults on purpose: %s", settings.faults)
    began = time.perf_counter()
    provider, served = await asyncio.to_thread(_load, folder, settings, config)
    spec = served.engine.spec
    took = time.perf_counter() - began
    logger.info(
        "serving %s (%s) on %s, ready in %.1f s", spec.id, spec.precision, provider.name, took
    )
    return served


def _load(folder: Path, settings: ServiceSettings, config: EngineConfig) -> tuple[Provider, Served]:
    provider = choose_provider(settings.provider)
    engine = Engine.load(folder, provider, config, settings.prefill_folder)
    return provider, Served.load(folder, engine)


async def serve(served: Served, lifecycle: Lifecycle) -> None:
    """Opens the doors."""
    deaths: set[asyncio.Task[None]] = set()

    def on_death() -> None:
        logger.critical("the engine died; the service takes no more requests")
        deaths.add(asyncio.ensure_future(lifecycle.close("The engine died")))

    served.engine.start(on_death)
    await lifecycle.open(served)


async def drain(lifecycle: Lifecycle, engine: Engine, grace: float) -> None:
    """Closes the doors, lets who is inside finish, puts out the light."""
    logger.info("stopping: running answers get up to %g s", grace)
    await lifecycle.close("The server is shutting down")
    await engine.drain(grace)
    await engine.stop()
    logger.info("requests: %s; slots: %s", engine.counters, engine.slot_counters)


def catch_signals() -> asyncio.Event:
    """An event that the first SIGINT or SIGTERM sets; a later one ends the process at once."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    first = 0.0

    def caught(number: int) -> None:
        nonlocal first
        if not stopping.is_set():
            first = loop.time()
            stopping.set()
        elif loop.time() - first > SAME_WISH:
            os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, caught, number)
    return stopping
