"""What the engine's thread tells the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds between two messages to a reader, for each reader there is. A message takes service
# and gateway about 0.25 ms of CPU time together, so that all take half of a core at most; beside
# many readers of a fast model they would take what its next step needs. Steps of 16 rows that
# take more than 8 ms are never held up.
SPACING = 0.0005

Event = Callable[[], None]
"""News for one generation, to be called in the event loop."""


class Outbox:
    """Gathers events, so that the loop wakes up once for many."""

    def __init__(self, deliver: Callable[[list[Event]], None]) -> None:
        self._deliver = deliver
        self._events: list[Event] = []
        self._sent_at = 0.0

    def add(self, event: Event) -> None:
        self._events.append(event)

    def add_first(self, event: Event) -> None:
        self._events.insert(0, event)

    def send(self) -> None:
        """Delivers what there is, all at once."""
        if self._events:
            self._sent_at = time.monotonic()
            self._deliver(self._events)
            self._events = []

    def send_spaced(self, readers: int, step_began: float) -> None:
        """Delivers what there is, unless another step like the last one ends in time for it."""
        now = time.monotonic()
        if now + (now - step_began) >= self._sent_at + readers * SPACING:
            self.send()
