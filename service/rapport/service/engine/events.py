"""What the engine's thread tells the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable

# A message takes service and gateway about 0.25 ms of CPU time together. So often, in seconds, each
# reader gets one from a model whose steps are faster, for which a half to all of a core is enough;
# else many readers would take what the next step needs. Steps of 16 rows wait from 4 ms downwards.
SPACING_PER_READER_S = 0.0005
# Seconds that are no stutter to anybody.
MAX_SPACING_S = 0.032

Event = Callable[[], None]
"""News for one generation, to be called in the event loop."""


class Outbox:
    """Gathers events, so that the loop wakes up once for many."""

    def __init__(self, deliver: Callable[[list[Event]], None]) -> None:
        self._deliver = deliver
        self._events: list[Event] = []
        self._urgent = False
        self._sent_at = 0.0

    def add(self, event: Event, *, urgent: bool = True) -> None:
        """Takes an event to send after this step, or after a later one if it is not urgent."""
        self._events.append(event)
        self._urgent |= urgent

    def add_first(self, event: Event) -> None:
        """Takes an urgent event that goes before all others."""
        self._events.insert(0, event)
        self._urgent = True

    def send(self) -> None:
        """Delivers what there is, all at once."""
        if self._events:
            events, self._events = self._events, []
            self._urgent = False
            self._sent_at = time.monotonic()
            self._deliver(events)

    def end_step(self, readers: int, began: float) -> None:
        """Delivers what there is, unless all of it can wait for another step like this one."""
        now = time.monotonic()
        due = self._sent_at + min(readers * SPACING_PER_READER_S, MAX_SPACING_S)
        if self._urgent or now + (now - began) >= due:
            self.send()
