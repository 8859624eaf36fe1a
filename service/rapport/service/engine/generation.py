"""A request in flight, as asyncio code sees it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from rapport.service.engine.errors import EngineError
from rapport.service.engine.request import Delta, GenerationRequest
from rapport.service.engine.sampling.logprobs import TokenLogprob

# With twenty alternatives each, so many tokens take about 150 KB.
MAX_MERGED_TOKENS = 128


class Generation:
    """The deltas of a request as they arrive. Leaving the `async with` cancels the request.

    For a reader that lags, the deltas of a choice are merged, so what waits here is bounded by
    the request's `n * max_tokens`. Deltas of `MAX_MERGED_TOKENS` are not merged further, as a slow
    reader should not take long for one message.
    """

    def __init__(self, request: GenerationRequest, cancel: Callable[[Generation], None]) -> None:
        self.request = request
        # Times are those of the monotonic clock.
        self.submitted_at = time.monotonic()
        self.started_at: float | None = None
        """When a choice was first given a slot."""
        self.first_token_at: float | None = None
        """When the first token came."""
        self.last_token_at = self.submitted_at
        """When the last token came."""
        self.ended = False
        self.completion_tokens = 0
        self.cached_tokens = 0
        """Tokens of the prompt that did not need to be computed."""
        self._prompt_logprobs: list[TokenLogprob] = []
        self.drafted_tokens = 0
        """Tokens in drafts."""
        self.accepted_tokens = 0
        """Tokens of drafts that were accepted."""
        self._cancel = cancel
        self._pending: deque[Delta] = deque()
        self._growing: dict[int, Delta] = {}
        """The latest of the pending deltas of a choice."""
        self.unfinished = request.n
        """Choices that have not ended."""
        self.error: EngineError | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.cancel()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Yields until every choice has finished.

        Raises:
            EngineError: the request failed; the deltas before stay valid.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            for delta in self.take():
                yield delta
            if self.error is not None:
                raise self.error
            if self.ended:
                return

    def take(self) -> Iterator[Delta]:
        """The deltas that have come, until none is left."""
        while self._pending:
            delta = self._pending.popleft()
            if self._growing[delta.index] is delta:
                del self._growing[delta.index]
            yield delta

    def report_to(self, news: asyncio.Event) -> None:
        """Sets an event, from now on, whenever there is something to take or an end."""
        self._news = news

    def cancel(self) -> None:
        """Cancels the request, if it still runs."""
        if not self.ended:
            self._cancel(self)

    def mark_started(self, at: float) -> None:
        """Records that the request got its first slot, `at` by the monotonic clock."""
        self.started_at = at

    @property
    def prompt_tokens(self) -> int:
        return len(self.request.prompt)

    @property
    def started(self) -> bool:
        return self.started_at is not None

    def add_cached(self, tokens: int) -> None:
        """Adds prompt tokens that came from the prefix cache."""
        self.cached_tokens += tokens

    def add_prompt_logprobs(self, logprobs: list[TokenLogprob]) -> None:
        """Adds the log probabilities of the prompt's next tokens."""
        self._prompt_logprobs += logprobs

    def prompt_logprobs_of(self, _place: int = 0) -> Sequence[TokenLogprob]:
        """Those of the prompt's tokens that were asked for. All come before the first delta."""
        return self._prompt_logprobs

    def record_acceptance(self, drafted: int, accepted: int) -> None:
        """Adds the tokens of a draft, and how many of them were accepted."""
        self.drafted_tokens += drafted
        self.accepted_tokens += accepted

    def add(self, delta: Delta) -> None:
        """Queues what a step added to a choice, or merges it with what is queued."""
        self.completion_tokens += len(delta.token_ids)
        self.last_token_at = time.monotonic()
        if self.first_token_at is None:
            self.first_token_at = self.last_token_at
        growing = self._growing.get(delta.index)
        if growing is not None and len(growing.token_ids) < MAX_MERGED_TOKENS:
            growing.extend(delta)
        else:
            self._growing[delta.index] = delta
            self._pending.append(delta)
        if delta.finish_reason is not None:
            self.unfinished -= 1
            self.ended = self.unfinished == 0
        self._news.set()

    def fail(self, error: EngineError) -> None:
        """Ends the request with an error."""
        self.error = error
        self.ended = True
        self._news.set()
