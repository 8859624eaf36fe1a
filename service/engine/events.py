"""What the engine's thread tells the event loop."""

from __future__ import annotations

from collections.abc import Callable

Event = Callable[[], None]
"""News for one generation, to be called in the event loop."""


class Outbox:
    """Gathers events, so that the loop wakes up once for many."""

    def __init__(self, deliver: Callable[[list[Event]], None]) -> None:
        self._deliver = deliver
        self._events: list[Event] = []

    def add(self, event: Event) -> None:
        self._events.append(event)

    def add_first(self, event: Event) -> None:
        self._events.insert(0, event)

    def send(self) -> None:
        """Delivers what there is, all at once."""
        if self._events:
            self._deliver(self._events)
            self._events = []
