"""HTTP/1.1 connections, for clients that close half of one or do not read."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from rapport.gateway.errors import bad_request, unavailable
from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.http1.parser import Parser
from rapport.gateway.http1.protocol import BoundedProtocol, Phase
from rapport.gateway.transcoding.sse import KEEPALIVE

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
    one that nobody reads from, however slowly. Of requests that wait in line uvicorn knows the
    last one alone; whose turn it is stands in `_running`.
    """

    parser: Parser

    def __init__(self, *args: Any, delivery: Delivery, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = Parser(self)
        self._delivery = delivery
        self._running: RequestResponseCycle = None  # type: ignore[assignment]  # as uvicorn's `cycle`
        self._half_closed = False
        self._unreadable = False
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
        self._give_up_running()

    def on_headers_complete(self) -> None:
        if self.parser.reads_again():
            return
        try:
            super().on_headers_complete()
        except Exception:
            self._enter(Phase.HEAD)  # Without a path there is nobody to answer, nor a body.
            raise
        if self.pipeline:
            self._look_later()

    def on_message_complete(self) -> None:
        if not self.parser.reads_again():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP; where it follows other requests, they have their answers."""
        self._unreadable = True
        self.flow.resume_reading()  # to see the end of what is dropped from here on
        if self._answers_earlier():
            self._end_behind_answers()
        else:
            self._refuse(bad_request(msg))
            self._give_up_running()

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
        if not (self._owes_answers() and self._may_half_close()):
            return False
        self.cycle.keep_alive = False
        self._find_out()
        return True

    def _pass_on(self, piece: bytes) -> None:
        if not self._unreadable:
            super()._pass_on(piece)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(
            cycle, self._refuse_connection if app is service_unavailable else app
        )

    async def _refuse_connection(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI application for requests on one connection too many."""
        error = unavailable("The server has as many connections as it can take")
        error.headers["connection"] = "close"
        await Exchange(scope, receive, send, self._dialect).refuse(error)

    def _give_up_running(self) -> None:
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _answers_earlier(self) -> bool:
        """Whether answers are owed to requests before the one that is read."""
        if self._phase is Phase.BODY:
            return bool(self.pipeline)
        return self.cycle is not None and not self.cycle.response_complete

    def _end_behind_answers(self) -> None:
        """Hangs up behind the answers to the requests that came whole."""
        if self._phase is Phase.BODY:  # The last one in line did not.
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        self.cycle.keep_alive = False
        self._enter(Phase.IDLE)

    def _owes_answers(self) -> bool:
        cycle = self.cycle
        return cycle is not None and not cycle.more_body and not cycle.response_complete

    def _may_half_close(self) -> bool:
        return self.scheme == "http" and self._running.scope["http_version"] == "1.1"

    def _find_out(self) -> None:
        """Has the kernel of a client that sends no more tell whether it is gone."""
        if not self._half_closed:
            self._half_closed = True
            self._probe()
        self._look_later()

    def _probe(self) -> None:
        if not self._running.response_started:
            self.transport.write(INTERIM)
        elif self._running.chunked_encoding:  # only events come in chunks
            self.transport.write(COMMENT)

    def _look_later(self) -> None:
        if self._looking is None:
            self._looking = self.loop.call_later(LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        """Sees what is not told of a connection that is half closed, or not read from for now."""
        self._looking = None
        connected: socket.socket = self.transport.get_extra_info("socket")
        if connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        # While requests wait in line nothing is read, and so no end either.
        if self.flow.read_paused and not self._half_closed and _is_at_end(connected):
            if not self._may_half_close():
                self.transport.abort()
                return
            self._find_out()
        if self._half_closed or self.pipeline:
            self._look_later()

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


def _is_at_end(connected: socket.socket) -> bool:
    """Whether the other side sends no more, though what it sent may still be unread."""
    poll = select.poll()
    # Linux has it. Elsewhere such a client is noticed with the next thing that is sent.
    poll.register(connected, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))
