"""The requests of several prompts in flight, as one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from rapport.service.engine.errors import OverloadedError
from rapport.service.engine.generation import Generation
from rapport.service.engine.request import Delta, GenerationRequest
from rapport.service.engine.sampling.logprobs import TokenLogprob

Submit = Callable[[GenerationRequest], Generation]


class GenerationBatch:
    """The deltas of several requests as they arrive, their choices numbered on.

    The first request is submitted when the `async with` begins, and may be refused as any. The
    others follow while fewer than `max_running` run, or later where the engine is full then: they
    wait here, and not in the queue that others share. Leaving the `async with` cancels all.
    """

    def __init__(
        self, requests: Sequence[GenerationRequest], submit: Submit, max_running: int
    ) -> None:
        self.generations: list[Generation] = []
        """Those that were submitted, in the order of their prompts."""
        self._submit = submit
        self._max_running = max_running
        self._waiting = deque(enumerate(requests))
        self._running: dict[int, Generation] = {}
        """By the place of the prompt."""
        self._news = asyncio.Event()
        self._retry_at = 0.0
        """When the engine may have room again, by the event loop's clock."""

    async def __aenter__(self) -> Self:
        self._start_next()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for generation in self._running.values():
            generation.cancel()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Yields until every choice has finished.

        Raises:
            EngineError: a request failed; the deltas before stay valid.
        """
        while self._running or self._waiting:
            self._news.clear()
            self._start_waiting()
            for place, generation in tuple(self._running.items()):
                before = place * generation.request.n
                for delta in generation.take():
                    yield replace(delta, index=before + delta.index)
                if generation.error is not None:
                    raise generation.error
                if generation.ended:
                    del self._running[place]
                    self._news.set()
            await self._wait()

    @property
    def prompt_tokens(self) -> int:
        return sum(generation.prompt_tokens for generation in self.generations)

    @property
    def completion_tokens(self) -> int:
        return sum(generation.completion_tokens for generation in self.generations)

    @property
    def cached_tokens(self) -> int:
        return sum(generation.cached_tokens for generation in self.generations)

    @property
    def drafted_tokens(self) -> int:
        return sum(generation.drafted_tokens for generation in self.generations)

    @property
    def accepted_tokens(self) -> int:
        return sum(generation.accepted_tokens for generation in self.generations)

    @property
    def submitted_at(self) -> float:
        return self.generations[0].submitted_at

    @property
    def started_at(self) -> float | None:
        return _earliest(generation.started_at for generation in self.generations)

    @property
    def first_token_at(self) -> float | None:
        return _earliest(generation.first_token_at for generation in self.generations)

    @property
    def last_token_at(self) -> float:
        return max(generation.last_token_at for generation in self.generations)

    def prompt_logprobs_of(self, place: int) -> Sequence[TokenLogprob]:
        """Those of the tokens of a prompt that were asked for."""
        return self.generations[place].prompt_logprobs_of()

    def _start_waiting(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting and len(self._running) < self._max_running and now >= self._retry_at:
            try:
                self._start_next()
            except OverloadedError as error:
                self._retry_at = now + error.retry_after

    def _start_next(self) -> None:
        place, request = self._waiting[0]
        generation = self._submit(request)
        generation.report_to(self._news)
        self._waiting.popleft()
        self._running[place] = generation
        self.generations.append(generation)

    async def _wait(self) -> None:
        """Waits for deltas, or until requests that the engine had no room for can be tried."""
        # Not a question of time: it may be past `_retry_at` since they were refused.
        is_refused = self._waiting and len(self._running) < self._max_running
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._retry_at if is_refused else None):
                await self._news.wait()


def _earliest(times: Iterable[float | None]) -> float | None:
    return min((time for time in times if time is not None), default=None)
