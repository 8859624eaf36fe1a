"""The service as a process: it listens, loads the model, serves, and drains."""

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
from rapport.common.process import SupervisorLink
from rapport.common.telemetry.traces import Tracer
from rapport.service.config import ServiceSettings
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.kv.host import bytes_per_token
from rapport.service.engine.runtime.faults import parse_faults
from rapport.service.engine.runtime.providers import CPU, Provider, ProviderError, choose_provider
from rapport.service.engine.watchdog import death_of
from rapport.service.interceptors.tracing import trace_with
from rapport.service.lifecycle import Lifecycle, ServedModel
from rapport.service.metrics.service import ServiceMetrics
from rapport.service.server import Server

logger = logging.getLogger("rapport.service")

EXIT_ENGINE_DIED = 3
"""The exit status when the engine has died or hangs."""
# Ctrl-C reaches a whole process group, and a parent process then passes it on as well. Signals
# that follow the first within this time count as the same one.
SIGNAL_REPEAT_S = 1.0
MAX_REASON_CHARS = 300
# For the last messages of ended answers to be sent.
FLUSH_S = 1.0
# How long a thread may go on while another wants to run. While the event loop is busy, the
# engine's thread waits that long after each call into the runtime; Python's default of 5 ms is
# longer than a step of a small model.
SWITCH_INTERVAL_S = 0.0002


class UnusableModelError(Exception):
    """The model folder is damaged, is not a model, or is too large for this machine."""

    def __init__(self, folder: Path, error: Exception) -> None:
        reason = " ".join(str(error).split())[:MAX_REASON_CHARS] or type(error).__name__
        super().__init__(f"the model folder {folder} cannot be used: {reason}")


class KvBudgetError(Exception):
    """The setting kv_budget leaves no room for any request to this model."""

    def __init__(self, kv_budget: int, tokens: int, size: int) -> None:
        super().__init__(
            f"kv_budget: {kv_budget} bytes are too few for one request: with this model the "
            f"shortest chat takes {tokens} tokens, which are {size} bytes"
        )


async def run(settings: ServiceSettings, folder: Path, tracer: Tracer) -> None:
    """Serves until a signal comes, then lets running requests finish.

    Ends the process itself where a thread cannot be waited for: with status 0 when a signal comes
    while the model loads, with EXIT_ENGINE_DIED when the engine has died or hangs.

    Raises:
        PortTakenError: the address cannot be listened on.
        KeyFileError: the file of API keys cannot be used.
        CertificateError: the certificate or its key cannot be used.
        ProviderError: the requested provider cannot run here.
        UnusableModelError: the model folder cannot be used.
        KvBudgetError: no request to this model fits the setting.
    """
    stopping = _SignalHandler().stopping
    lifecycle = Lifecycle()
    metrics = ServiceMetrics(lifecycle)
    server = Server(settings, lifecycle, trace_with(tracer), metrics.observe)
    status: int | None = None
    try:
        port = await server.listen(metrics.certificates)
        logger.info("gRPC on %s:%s", settings.address, port)
        with exposed(metrics.registry, settings, settings.metrics_port):
            loading = asyncio.create_task(_load(settings, folder))
            if await _finishes_first(loading, stopping.wait()):
                _tune_interpreter()
                status = await serve_until_stopped(await loading, settings, lifecycle, stopping)
            else:
                logger.info("stopped while the model was loading")
                status = 0
    finally:
        lifecycle.health.close()
        await server.stop(FLUSH_S)
    if status is not None:
        _exit_now(status)


async def serve_until_stopped(
    served: ServedModel, settings: ServiceSettings, lifecycle: Lifecycle, stopping: asyncio.Event
) -> int | None:
    """Serves and then drains. Returns EXIT_ENGINE_DIED if the engine dies meanwhile."""
    died = start_engine(served, lifecycle)
    SupervisorLink().report_ready()
    drained = asyncio.create_task(_drain_when(stopping, served.engine, settings, lifecycle))
    if await _finishes_first(drained, death_of(served.engine, died, settings.engine_stall_timeout)):
        await drained
        served.formats.close()
        return None
    drained.cancel()
    logger.critical("the engine is dead, so the service ends")
    lifecycle.mark_dead()
    await asyncio.sleep(FLUSH_S)  # so that callers who come meanwhile are told why
    return EXIT_ENGINE_DIED


def start_engine(served: ServedModel, lifecycle: Lifecycle) -> asyncio.Event:
    """Starts the engine and admits requests. The event is set when the engine dies."""
    died = asyncio.Event()
    served.engine.start(died.set)
    lifecycle.start_serving(served)
    return died


async def drain(lifecycle: Lifecycle, engine: Engine, grace_s: float) -> None:
    """Stops admitting requests, waits for those in flight, then stops the engine."""
    logger.info("stopping: running requests get up to %g s to finish", grace_s)
    lifecycle.stop_admitting("The server is shutting down")
    deadline = time.monotonic() + grace_s
    await engine.drain(grace_s)
    with suppress(TimeoutError):
        # The engine is done with an answer before a slow reader has received it.
        async with asyncio.timeout(max(0, deadline - time.monotonic())):
            await lifecycle.in_flight.wait_until_none()
    await engine.stop()
    logger.info("requests: %s; slots: %s", engine.counters, engine.slot_counters)


async def _drain_when(
    stopping: asyncio.Event, engine: Engine, settings: ServiceSettings, lifecycle: Lifecycle
) -> None:
    await stopping.wait()
    lifecycle.fail_readiness()
    if settings.drain_delay:
        logger.info(
            "stopping: health checks fail now, requests are refused in %g s", settings.drain_delay
        )
        await asyncio.sleep(settings.drain_delay)
    await drain(lifecycle, engine, settings.shutdown_grace)


async def _load(settings: ServiceSettings, folder: Path) -> ServedModel:
    """Loads the model in a thread; meanwhile the event loop answers that it is loading."""
    config = _engine_config(settings)
    if config.faults:
        logger.warning("faults are injected: %s", settings.faults)
    began = time.perf_counter()
    provider, served = await asyncio.to_thread(_load_folder, folder, settings, config)
    _check_kv_budget(served, settings.kv_budget)
    spec = served.engine.spec
    elapsed_s = time.perf_counter() - began
    logger.info(
        "serving %s (%s) on %s, ready in %.1f s", spec.id, spec.precision, provider.name, elapsed_s
    )
    return served


def _engine_config(settings: ServiceSettings) -> EngineConfig:
    return EngineConfig(
        slots=settings.slots,
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        max_ttft=settings.max_ttft,
        kv_budget_bytes=settings.kv_budget,
        prefix_bytes=settings.prefix_cache,
        gpu_share=settings.gpu_memory,
        itl_target=settings.itl_target,
        drafts=settings.drafts,
        threads=settings.threads,
        deterministic=settings.deterministic,
        faults=parse_faults(settings.faults),
    )


def _load_folder(
    folder: Path, settings: ServiceSettings, config: EngineConfig
) -> tuple[Provider, ServedModel]:
    try:
        provider, engine = _load_engine(folder, settings, config)
        return provider, ServedModel.load(folder, engine, settings.aliases)
    except ProviderError:
        raise
    except Exception as error:
        # Each of the libraries that read a folder has errors of its own for a damaged file.
        logger.debug("the model folder cannot be used", exc_info=True)
        raise UnusableModelError(folder, error) from error


def _load_engine(
    folder: Path, settings: ServiceSettings, config: EngineConfig
) -> tuple[Provider, Engine]:
    provider = choose_provider(settings.provider, settings.device_id)
    try:
        return provider, Engine.load(folder, provider, config, settings.prefill_folder)
    except ProviderError as error:
        if settings.provider != "auto":
            raise
        logger.warning("running on the CPU: %s", error)
        return CPU, Engine.load(folder, CPU, config, settings.prefill_folder)


def _check_kv_budget(served: ServedModel, kv_budget: int) -> None:
    """Raises KvBudgetError if not even the shortest chat and one token of its answer fit."""
    tokens = served.prompts.min_prompt_tokens() + 1
    size = tokens * bytes_per_token(served.engine.spec)
    if size > kv_budget:
        raise KvBudgetError(kv_budget, tokens, size)


async def _finishes_first(task: asyncio.Task[Any], other: Coroutine[Any, Any, Any]) -> bool:
    """Waits for either and cancels `other`. Returns whether the task is done."""
    rival = asyncio.create_task(other)
    await asyncio.wait((task, rival), return_when=asyncio.FIRST_COMPLETED)
    rival.cancel()
    return task.done()


def _tune_interpreter() -> None:
    """Prepares the interpreter for steps of a few milliseconds."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What is loaded stays: to search it for garbage would pause all streams.
    gc.collect()
    gc.freeze()


def _exit_now(status: int) -> None:
    """Ends the process without waiting for its threads."""
    logging.shutdown()
    os._exit(status)


class _SignalHandler:
    """Sets `stopping` at the first SIGINT or SIGTERM; a later one ends the process at once."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._first_at = 0.0
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._handle, number)

    def _handle(self, number: int) -> None:
        if not self.stopping.is_set():
            self._first_at = self._loop.time()
            self.stopping.set()
        elif self._loop.time() - self._first_at > SIGNAL_REPEAT_S:
            os._exit(128 + number)
