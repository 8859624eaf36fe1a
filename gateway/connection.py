"""HTTP/1.1 connections, for clients that close half of one or do not read."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter

from gateway.protocol import BoundedProtocol
from gateway.sse import KEEPALIVE

logger = logging.getLogger(__name__)

# What tells a client that only stopped sending from one that is gone: whoever is gone has its
# kernel refuse what comes. An interim response may come before any other (RFC 9110, 15.2), and
# this is the one that all clients know; between events there may be comments.
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
COMMENT = b"%x\r\n%b\r\n" % (len(KEEPALIVE), KEEPALIVE)
LOOK_INTERVAL = 0.05
# A client is seen to be stuck this part of its time too late at most.
SHARE = 4
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Delivery:
    """For how many seconds clients may leave what they are sent, and how many were cut for it."""

    reader_timeout: float
    cut: Counter


class Connection(BoundedProtocol):
    """A client that shuts down its sending side still gets its answers; one that is stuck is cut.

    While the kernel takes no more, nothing is written: a buffer that does not get smaller is
    one that nobody reads from, however slowly.
    """

    def __init__(self, *args: Any, delivery: Delivery, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._delivery = delivery
        self._watch: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # as uvicorn's own
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        # Bytes that stay in the buffer are noticed however few they are. (TLS takes no 0.)
        self.transport.set_write_buffer_limits(high=1, low=0)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._watch, self._looking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_buffer(self.transport.get_write_buffer_size(), self.loop.time())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it
        """Keeps the connection for answers under way. TLS has no half to close."""
        if self.scheme == "https" or not self._owes_answers():
            return False
        self.cycle.keep_alive = False
        if not self.pipeline:
            self._probe()
        self._look_for_refusal()
        return True

    def _owes_answers(self) -> bool:
        cycle = self.cycle
        whole = cycle is not None and not cycle.more_body
        return whole and not cycle.response_complete and cycle.scope["http_version"] == "1.1"

    def _probe(self) -> None:
        if not self.cycle.response_started:
            self.transport.write(INTERIM)
        elif self.cycle.chunked_encoding:  # only events come in chunks
            self.transport.write(COMMENT)

    def _look_for_refusal(self) -> None:
        """Sees what is not told of a connection of which one half is closed."""
        connected: socket.socket = self.transport.get_extra_info("socket")
        if connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        self._looking = self.loop.call_later(LOOK_INTERVAL, self._look_for_refusal)

    def _watch_buffer(self, left: int, since: float) -> None:
        """Cuts the client if as many bytes are left as there were so long ago."""
        now, size = self.loop.time(), self.transport.get_write_buffer_size()
        if size < left:
            left, since = size, now
        if now - since >= self._delivery.reader_timeout:
            self._cut()
            return
        pause = self._delivery.reader_timeout / SHARE
        self._watch = self.loop.call_later(pause, self._watch_buffer, left, since)

    def _cut(self) -> None:
        self._delivery.cut.inc()
        timeout = self._delivery.reader_timeout
        logger.warning("%s is cut: it read nothing for %g s", self.client, timeout)
        # Otherwise the kernel would keep what it has, and go on trying.
        connected: socket.socket = self.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.transport.abort()
