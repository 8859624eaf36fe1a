"""Gathers the events of the engine's thread and delivers them together."""

from __future__ import annotations

import time
from collections.abc import Callable

from rapport.service.engine.messages import Event

# A message costs the service and the gateway together about 0.25 ms of CPU time. Where steps are
# faster than this, each reader gets one message per SPACING_PER_READER_S times the number of
# readers, which half a core to a whole core can serve; otherwise many readers would take CPU time
# that the next step needs. With 16 rows, events are held back if a step takes 4 ms or less.
SPACING_PER_READER_S = 0.0005
# No reader notices a pause of this length.
MAX_SPACING_S = 0.032


class Outbox:
    """Holds events back for a while, so that the event loop wakes up once for many of them."""

    def __init__(self, deliver: Callable[[list[Event]], None]) -> None:
        self._deliver = deliver
        self._events: list[Event] = []
        self._urgent = False
        self._sent_at = 0.0

    def add(self, event: Event, *, urgent: bool = True) -> None:
        """Queues an event, to be sent at the end of this step if urgent, or of a later one."""
        self._events.append(event)
        self._urgent |= urgent

    def add_first(self, event: Event) -> None:
        """Queues an urgent event ahead of all others."""
        self._events.insert(0, event)
        self._urgent = True

    def send(self) -> None:
        """Delivers all queued events at once."""
        if self._events:
            events, self._events = self._events, []
            self._urgent = False
            self._sent_at = time.monotonic()
            self._deliver(events)

    def end_step(self, readers: int, began: float) -> None:
        """Delivers the queued events, unless all of them can wait for another step as long.

        `began` is when the step began, by the monotonic clock.
        """
        now = time.monotonic()
        due = self._sent_at + min(readers * SPACING_PER_READER_S, MAX_SPACING_S)
        if self._urgent or now + (now - began) >= due:
            self.send()
