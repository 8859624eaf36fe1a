"""The service as a process: listens, loads the model, serves, drains."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from rapport.common.metrics.endpoint import exposed
from rapport.common.process import tell_ready
from rapport.common.telemetry.traces import Tracer
from rapport.service.config import ServiceSettings
from rapport.service.engine.engine import Engine, EngineConfig
from rapport.service.engine.runtime.faults import parse_faults
from rapport.service.engine.runtime.providers import Provider, choose_provider
from rapport.service.engine.watchdog import death_of
from rapport.service.interceptors.tracing import trace_with
from rapport.service.lifecycle import Lifecycle, Served
from rapport.service.metrics.metrics import Metrics
from rapport.service.server import build_server, listen

logger = logging.getLogger("rapport.service")

# Ctrl-C reaches a whole group of processes, and then a parent passes it on as well:
# signals that follow this soon, in seconds, are the same wish.
SAME_WISH = 1.0
ENGINE_DIED = 3
"""The exit status of a service whose engine has died or hangs."""
LONGEST_REASON = 300
# Seconds for the last messages of ended answers to leave.
FLUSH = 1.0
# Seconds that a thread may go on while another wants to. The engine's thread waits that long
# after each call into the runtime while the event loop is busy; Python's own 5 ms are longer
# than a step of a small model.
SWITCH_INTERVAL = 0.0002


class UnusableModelError(Exception):
    """The model folder is damaged, is none, or is too large for this machine."""

    def __init__(self, folder: Path, reason: Exception) -> None:
        told = " ".join(str(reason).split())[:LONGEST_REASON] or type(reason).__name__
        super().__init__(f"the model folder {folder} cannot be used: {told}")


async def run(settings: ServiceSettings, folder: Path, tracer: Tracer) -> None:
    """Serves until a signal comes, then lets running answers finish.

    Ends the process by itself where a thread cannot be waited for: with status 0 when a signal
    comes while the model loads, with ENGINE_DIED when the engine has died or hangs.

    Raises:
        PortTakenError: the address cannot be listened on.
        KeyFileError: the file of API keys cannot be used.
        CertificateError: the certificate or its key cannot be used.
        ProviderError: the provider that was asked for cannot run here.
        UnusableModelError: the model folder cannot be used.
    """
    stopping = catch_signals()
    lifecycle = Lifecycle()
    await lifecycle.begin()
    metrics = Metrics(lifecycle)
    server = build_server(settings, lifecycle, trace_with(tracer), metrics.record)
    status: int | None = None
    try:
        port = await listen(server, settings, metrics.certificates)
        logger.info("gRPC on %s:%s", settings.address, port)
        with exposed(metrics.registry, settings, settings.metrics_port):
            loading = asyncio.create_task(load(settings, folder))
            if await comes_first(loading, stopping.wait()):
                settle()
                status = await live(await loading, settings, lifecycle, stopping)
            else:
                logger.info("stopped while the model was loading")
                status = 0
    finally:
        await server.stop(FLUSH)
    if status is not None:
        leave(status)


async def live(
    served: Served, settings: ServiceSettings, lifecycle: Lifecycle, stopping: asyncio.Event
) -> int | None:
    """Serves and drains. Returns ENGINE_DIED if the engine dies meanwhile."""
    died = await serve(served, lifecycle)
    tell_ready()
    life = asyncio.create_task(until_drained(served.engine, settings, lifecycle, stopping))
    death = death_of(served.engine, died, settings.engine_stall_timeout)
    if await comes_first(life, death):
        await life
        served.formats.close()
        return None
    life.cancel()
    logger.critical("the engine is dead, so the service ends")
    await lifecycle.die()
    await asyncio.sleep(FLUSH)  # for callers that come meanwhile to hear why
    return ENGINE_DIED


async def comes_first(task: asyncio.Task[Any], other: Coroutine[Any, Any, Any]) -> bool:
    """Waits for either, and gives the other up. Whether it was the task that came first."""
    rival = asyncio.create_task(other)
    await asyncio.wait((task, rival), return_when=asyncio.FIRST_COMPLETED)
    rival.cancel()
    return task.done()


def leave(status: int) -> None:
    """Ends the process at once, whatever its threads do."""
    logging.shutdown()
    os._exit(status)


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
    try:
        engine = Engine.load(folder, provider, config, settings.prefill_folder)
        return provider, Served.load(folder, engine)
    except Exception as error:
        # Each of the libraries that read a folder has errors of its own for a damaged file.
        logger.debug("the model folder cannot be used", exc_info=True)
        raise UnusableModelError(folder, error) from error


async def serve(served: Served, lifecycle: Lifecycle) -> asyncio.Event:
    """Opens the doors. The event says that the engine has died."""
    died = asyncio.Event()
    served.engine.start(died.set)
    await lifecycle.open(served)
    return died


async def until_drained(
    engine: Engine, settings: ServiceSettings, lifecycle: Lifecycle, stopping: asyncio.Event
) -> None:
    await stopping.wait()
    await lifecycle.leave()
    if settings.drain_delay:
        logger.info(
            "stopping: health checks fail, requests are refused in %g s", settings.drain_delay
        )
        await asyncio.sleep(settings.drain_delay)
    await drain(lifecycle, engine, settings.shutdown_grace)


async def drain(lifecycle: Lifecycle, engine: Engine, grace: float) -> None:
    """Closes the doors, lets who is inside finish, puts out the light."""
    logger.info("stopping: running answers get up to %g s", grace)
    await lifecycle.close("The server is shutting down")
    ends = time.monotonic() + grace
    await engine.drain(grace)
    with suppress(TimeoutError):
        # The engine is done with an answer before a slow reader has it.
        await asyncio.wait_for(
            lifecycle.in_flight.wait_until_none(), max(0, ends - time.monotonic())
        )
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
