"""Whether a request may still get in line: bounds on what waits, and on how long it would."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from service.engine.errors import Overloaded
from service.engine.generation import Generation
from service.engine.pace import WEIGHT, Pace

SHORTEST_RETRY, LONGEST_RETRY = 0.1, 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What may wait. Tokens are those of prompts, times are in seconds; 0 is no limit."""

    requests: int
    tokens: int
    ttft: float


class Admission:
    """Foresees what a new request would wait for. For the event loop."""

    def __init__(self, limits: Limits, slots: int, pace: Pace) -> None:
        self._limits = limits
        self._slots = slots
        self._pace = pace
        self._held = 1.0  # seconds for which a request holds a slot

    def saw(self, seconds: float) -> None:
        """Learns for how long a request held its slot."""
        self._held += WEIGHT * (seconds - self._held)

    def check(self, live: Collection[Generation], tokens: int) -> None:
        """Lets a prompt of so many tokens in behind the requests that live.

        Raises:
            Overloaded: one of the bounds is reached; it says when to try again.
        """
        limits = self._limits
        waiting = [generation for generation in live if not generation.begun]
        if len(waiting) >= limits.requests:
            raise overloaded("too many requests are waiting", self._held / self._slots)
        queued = sum(len(generation.request.prompt) for generation in waiting)
        if limits.tokens and waiting and queued + tokens > limits.tokens:
            excess = queued + tokens - limits.tokens
            raise overloaded(
                "too many prompt tokens are waiting", self._pace.prefill(excess, beside_decode=True)
            )
        ttft = self.ttft(live, tokens)
        if limits.ttft and ttft > limits.ttft:
            text = f"the first token would take about {ttft:.0f} s, the limit is {limits.ttft:g} s"
            raise overloaded(text, ttft - limits.ttft)

    def ttft(self, live: Collection[Generation], tokens: int) -> float:
        """Seconds until a prompt of so many tokens would get its first, about."""
        unread = [each for each in live if each.completion_tokens == 0]
        backlog = sum(len(each.request.prompt) - each.cached_tokens for each in unread)
        waiting = sum(not each.begun for each in live)
        running = sum(each.request.n for each in live if each.begun)
        ahead = max(0, waiting + 1 + running - self._slots)
        prefill = self._pace.prefill(backlog + tokens, beside_decode=running > 0)
        return prefill + ahead * self._held / self._slots


def overloaded(text: str, seconds: float) -> Overloaded:
    return Overloaded(text, retry_after=min(max(seconds, SHORTEST_RETRY), LONGEST_RETRY))
