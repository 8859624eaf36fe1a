"""Whether a client is still there that sends no more, or is not read from for now."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Protocol

LOOK_INTERVAL_S = 0.05


class Watched(Protocol):
    """A connection. It may be half closed: then its client still gets its answer."""

    @property
    def is_paused(self) -> bool:
        """Whether it is not read from for now."""

    def may_half_close(self) -> bool:
        """Whether a client that sends no more can wait for an answer."""

    def send_filler(self) -> None:
        """Sends something that means nothing, if that is possible now."""


class Liveness:
    """Finds out what asyncio does not tell.

    A client that only stopped sending looks like one that is gone, until something is sent: the
    kernel of one that is gone refuses it. And of one that is not read from, not even the end is
    seen.
    """

    def __init__(self, transport: asyncio.Transport, watched: Watched) -> None:
        self._transport = transport
        self._watched = watched
        self._is_half_closed = False
        self._timer: asyncio.TimerHandle | None = None

    def half_closed(self) -> None:
        """Says that the client sends no more."""
        if not self._is_half_closed:
            self._is_half_closed = True
            self._watched.send_filler()
        self.look_later()

    def look_later(self) -> None:
        """Begins to look, until the connection is read from again."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL_S, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        connected: socket.socket = self._transport.get_extra_info("socket")
        if connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._transport.abort()
            return
        if self._watched.is_paused and not self._is_half_closed and _is_at_end(connected):
            if not self._watched.may_half_close():
                self._transport.abort()
                return
            self.half_closed()
        if self._is_half_closed or self._watched.is_paused:
            self.look_later()


def _is_at_end(connected: socket.socket) -> bool:
    """Whether the other side sends no more, though what it sent may still be unread."""
    poll = select.poll()
    # Linux has it. Elsewhere such a client is noticed with the next thing that is sent.
    poll.register(connected, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))
