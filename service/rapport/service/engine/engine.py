"""The engine as asyncio code sees it: it takes requests and yields deltas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.errors import (
    EngineError,
    EngineUnavailableError,
    RequestCancelledError,
    UnserviceableRequestError,
)
from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.host import bytes_per_token
from rapport.service.engine.kv.prefix_cache import PrefixCache, PromptCache
from rapport.service.engine.kv.prefix_slots import PrefixSlots
from rapport.service.engine.kv.prefix_store import PrefixStore
from rapport.service.engine.messages import AbortRequest, AddRequest, Event, Stop, dispatch
from rapport.service.engine.request import GenerationRequest, Tenant
from rapport.service.engine.runtime.faulty_runner import FaultyRunner, inject_text_faults
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.providers import Provider
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.scheduling.admission import Admission
from rapport.service.engine.scheduling.latency_model import LatencyModel
from rapport.service.engine.scheduling.load import Demand, EngineLoad
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.stats import Occupancy, PrefixStats
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.engine.worker import Worker


@dataclass(slots=True)
class Counters:
    """Requests by outcome. When nothing runs, `accepted` is the sum of the others."""

    accepted: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.accepted} accepted, {self.finished} finished, "
            f"{self.cancelled} cancelled, {self.failed} failed"
        )


class Engine:
    """Serves one model. All methods are for the event loop in which it was started."""

    def __init__(
        self,
        runner: Runner,
        spec: ModelSpec,
        vocabulary: Vocabulary,
        config: EngineConfig,
        provider: str = "cpu",
    ) -> None:
        self.spec = spec
        self.vocabulary = vocabulary
        self.provider = provider
        budget = config.kv_budget_bytes // bytes_per_token(spec)
        self.context_length = min(spec.context_length, runner.slot_tokens, budget)
        """Tokens that prompt and completion may have together."""
        self.counters = Counters()
        self._scheduler = Scheduler(runner, vocabulary, set(spec.eos_token_ids), budget)
        self.slot_counters = self._scheduler.counters
        latency_model = LatencyModel(config.itl_target, runner.pace)
        served = self._scheduler.ledger.served
        self._admission = Admission(config.admission, runner.slots, latency_model, served)
        self._prefixes = _prefix_cache(runner, spec, config.prefix_bytes)
        self._worker = Worker(
            runner,
            self._scheduler,
            latency_model,
            self._prefixes,
            self._deliver,
            deterministic=config.deterministic,
            drafts=config.uses_drafts,
        )
        self.stats = self._worker.stats
        self._live: set[Generation] = set()
        self._reserved: list[Demand] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed_reason: str | None = "the engine has not started"
        """Why no request is accepted; None while requests are."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        provider: Provider,
        config: EngineConfig,
        prefill_folder: Path | None = None,
    ) -> Engine:
        """Opens a model folder. This takes seconds: do not call it in the event loop.

        Prompts run with the weights of `prefill_folder`, if it is given.
        """
        spec = ModelSpec.read(folder)
        vocabulary = Vocabulary.read(folder, spec.vocab_size)
        runner = load_runner(
            folder,
            spec,
            provider,
            config.slots,
            config.threads,
            prefill_folder=prefill_folder,
            limits=config.memory,
        )
        if config.faults:
            runner = FaultyRunner(runner, config.faults)
            inject_text_faults(vocabulary, config.faults)
        return cls(runner, spec, vocabulary, config, provider.name)

    def start(self, on_death: Callable[[], None]) -> None:
        """Starts the engine's thread; should it ever fail, `on_death` is called in the loop."""
        loop = self._loop = asyncio.get_running_loop()

        def died() -> None:
            loop.call_soon_threadsafe(self._die, on_death)

        self._closed_reason = None
        self._thread = self._worker.start(died)

    @property
    def waiting(self) -> int:
        """The number of waiting requests."""
        return sum(not generation.started for generation in self._live)

    @property
    def step_started_at(self) -> float | None:
        """When the current step started, by the monotonic clock; None if there is none."""
        return self._worker.step_started_at

    @property
    def prefix_stats(self) -> PrefixStats:
        """The state of the prefix cache. For any thread."""
        return self._prefixes.stats if self._prefixes is not None else PrefixStats()

    def occupancy(self) -> Occupancy:
        """What is in use now. For any thread."""
        waiting = [generation for generation in tuple(self._live) if not generation.started]
        scheduler = self._scheduler
        running = (*scheduler.decoding, *scheduler.prefilling)
        return Occupancy(
            slots=scheduler.slots,
            slots_used=len(running),
            waiting_requests=len(waiting),
            waiting_tokens=sum(len(generation.request.prompt) for generation in waiting),
            kv_budget_tokens=scheduler.budget,
            kv_reserved_tokens=scheduler.reserved_tokens,
            kv_tokens=sum(sequence.computed for sequence in running),
            token_bytes=bytes_per_token(self.spec),
        )

    def submit(self, request: GenerationRequest) -> Generation:
        """Puts a request into the queue.

        Raises:
            EngineUnavailableError: the engine takes no requests now.
            UnserviceableRequestError: the request can never fit.
            OverloadedError: too much is waiting.
        """
        self._check_open()
        self._check_size(request)
        self._check_room(Demand.of(request))
        generation = Generation(request, self._cancel)
        self.counters.accepted += 1
        self._live.add(generation)
        self._idle.clear()
        self._worker.put(AddRequest(generation))
        return generation

    @contextmanager
    def reserve_place(self, tenant: Tenant) -> Iterator[None]:
        """Reserves a place in the queue for a request while it is being parsed.

        A request that would be refused is thus refused before any work is done for it.

        Raises:
            EngineUnavailableError: the engine takes no requests now.
            OverloadedError: too much is waiting.
        """
        self._check_open()
        demand = Demand(tenant)
        self._check_room(demand)
        self._reserved.append(demand)
        try:
            yield
        finally:
            self._reserved.remove(demand)

    async def drain(self, grace: float) -> None:
        """Refuses new requests, and gives those in flight `grace` seconds to finish.

        Those that are still running then fail with EngineUnavailableError.
        """
        self._closed_reason = "the server is shutting down"
        try:
            await asyncio.wait_for(self._idle.wait(), grace)
        except TimeoutError:
            error = EngineUnavailableError(self._closed_reason)
            for generation in self._live:
                self._worker.put(AbortRequest(generation, error))
            await self._idle.wait()

    async def stop(self) -> None:
        """Stops the engine's thread; requests that still run fail."""
        self._closed_reason = "the engine has stopped"
        if self._thread is not None:
            self._worker.put(Stop())
            await asyncio.to_thread(self._thread.join)
        self._fail_all(EngineUnavailableError(self._closed_reason))

    def give_up(self) -> None:
        """Fails all requests and refuses new ones: the engine's thread has died or hangs."""
        self._closed_reason = "the engine has died"
        self._fail_all(EngineUnavailableError(self._closed_reason))

    def _check_open(self) -> None:
        if self._closed_reason is not None:
            raise EngineUnavailableError(self._closed_reason)

    def _check_room(self, demand: Demand) -> None:
        self._admission.check(demand, EngineLoad.of(self._live, self._reserved))

    def _check_size(self, request: GenerationRequest) -> None:
        tokens = len(request.prompt) + request.max_tokens
        limit = self.context_length
        if not request.prompt or request.max_tokens < 1 or request.n < 1:
            raise UnserviceableRequestError(
                "a request needs a prompt, max_tokens and n of at least 1"
            )
        if tokens > limit:
            raise UnserviceableRequestError(
                f"prompt and max_tokens are {tokens} tokens, the limit is {limit}"
            )

    def _cancel(self, generation: Generation) -> None:
        self._worker.put(AbortRequest(generation, RequestCancelledError("the caller left")))

    def _deliver(self, events: list[Event]) -> None:
        """Called in the engine's thread: wakes the loop once for all the events."""
        assert self._loop is not None, "the worker runs only after the start"  # noqa: S101 - an invariant
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._dispatch, events)

    def _dispatch(self, events: list[Event]) -> None:
        dispatch(events)
        for generation in [generation for generation in self._live if generation.ended]:
            self._forget(generation)

    def _forget(self, generation: Generation) -> None:
        self._live.remove(generation)
        if generation.started_at is not None:
            self._admission.observe(time.monotonic() - generation.started_at)
        match generation.error:
            case None:
                self.counters.finished += 1
            case RequestCancelledError():
                self.counters.cancelled += 1
            case _:
                self.counters.failed += 1
        if not self._live:
            self._idle.set()

    def _die(self, on_death: Callable[[], None]) -> None:
        self.give_up()
        on_death()

    def _fail_all(self, error: EngineError) -> None:
        for generation in tuple(self._live):
            generation.fail(error)
            self._forget(generation)


def _prefix_cache(runner: Runner, spec: ModelSpec, budget: int) -> PromptCache | None:
    """The prefix cache: in slots of a GPU, or in the host's memory. None if it is off."""
    if runner.kept_slots is not None:
        token_bytes = bytes_per_token(spec)
        kept = runner.kept_slots
        return PrefixSlots(runner, kept, token_bytes, runner.slot_tokens) if kept else None
    if runner.memory is None or budget == 0:
        return None
    return PrefixCache(PrefixStore(budget), runner.memory)
