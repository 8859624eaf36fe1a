"""One connection of a client: requests one after the other, each bounded in size and in time.

While a request is answered, nothing of the next one is parsed and little of it is read: a client
can make the server hold or do no more than one request at a time on each connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import h11

from rapport.gateway.errors import ApiError, closing, unavailable
from rapport.gateway.http1.body_reader import BodyClock, BodyReader, late
from rapport.gateway.http1.connection_options import ConnectionOptions
from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.http1.linger import Linger
from rapport.gateway.http1.liveness import Liveness
from rapport.gateway.http1.output import Output
from rapport.gateway.http1.parser import Incoming, Input
from rapport.gateway.http1.responses import INTERIM, encoded
from rapport.gateway.http1.timer import Timer

logger = logging.getLogger(__name__)

# What is read at once; while a request is answered, of what follows it.
READ_BYTES = 64 << 10
READ_AHEAD_BYTES = 4 << 10

# Filled and emptied within one call of the event loop, so one is enough for all connections.
_read_buffer = memoryview(bytearray(READ_BYTES))


class Connection(asyncio.BufferedProtocol):
    """What asyncio, the server and the exchange call, for one connection."""

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._output: Output
        self._liveness: Liveness
        self._input = Input()
        self._timer = Timer()
        self._linger: Linger
        self.is_paused = False
        self._is_idle = self._is_too_many = False
        self._is_last = False
        """Whether the connection ends with the request in progress."""
        self._is_at_end = False
        """Whether the client sends no more."""
        self._is_lost = False
        # Of the request in progress:
        self._incoming: Incoming | None = None
        self._body: BodyReader
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        options = self._options
        # Not asked with isinstance: uvloop's transports are none of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._output = Output(self._transport, options.reader_timeout, options.stuck_readers)
        self._output.begin()
        self._liveness = Liveness(self._transport, self)
        self._linger = Linger(self._transport, self._timer)
        options.open.add(self)
        self._is_too_many = len(options.open) > options.max_connections
        self._timer.start(options.read_timeout, self._refuse_late_head)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._is_lost = True
        self._options.open.discard(self)
        self._timer.stop()
        self._liveness.stop()
        self._output.resume()
        if self._exchange is not None and not self._exchange.finished:
            self._exchange.disconnected = True
        if self._task is not None and (self._exchange is None or self._exchange.disconnected):
            self._task.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        is_ahead = self._incoming is not None and self._incoming.is_complete
        return _read_buffer[:READ_AHEAD_BYTES] if is_ahead else _read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport.is_closing():
            return
        if self._linger.has_begun:
            self._linger.received(nbytes)
            return
        self._input.data += _read_buffer[:nbytes]
        if self._incoming is not None:
            self._body.received(nbytes)
            self._update_reading()
        elif self._task is None:
            self._advance()

    def eof_received(self) -> bool:
        """Keeps the connection for answers under way. TLS has no half to close."""
        if not self.may_half_close():
            return False
        self._is_at_end = True
        self._liveness.half_closed()
        return True

    def pause_writing(self) -> None:
        self._output.pause()

    def resume_writing(self) -> None:
        self._output.resume()

    def end_with_answer(self) -> None:
        """Ends the connection: behind the answer under way, at once if there is none."""
        self._is_last = True
        if self._incoming is None:
            self._transport.close()

    def cancel(self) -> asyncio.Task[None] | None:
        """Cancels the request in progress. Returns its task, which may still answer it."""
        self._is_last = True
        if self._task is not None:
            self._task.cancel()
        return self._task

    def abort(self) -> None:
        """Ends the connection whatever is under way."""
        self._transport.abort()

    @property
    def address(self) -> str:
        """The client's, without its port."""
        return str(self._transport.get_extra_info("peername")[0])

    @property
    def closes(self) -> bool:
        """Whether the connection ends with the response."""
        return self._is_last or (self._is_at_end and not self._input.data)

    async def read_body(self) -> bytes:
        """The next piece of the request's body, nothing at its end. Raises ApiError."""
        piece = await self._body.next()
        self._update_reading()
        return piece

    def refuse_body(self, error: ApiError) -> None:
        """Has `read_body` raise the error."""
        self._body.refuse(error)

    async def send(self, *events: h11.Event) -> None:
        """Sends parts of the response; waits while the client reads slowly."""
        self._write(*events)
        await self._output.drain()

    def may_half_close(self) -> bool:
        """Whether a client that sends no more can wait for an answer."""
        incoming = self._incoming
        return (
            incoming is not None
            and incoming.is_complete
            and incoming.request.version == "1.1"
            and not self._options.is_secure
        )

    def send_filler(self) -> None:
        """Sends something that means nothing, if that is possible now."""
        exchange = self._exchange
        if exchange is None or exchange.finished:
            return
        if exchange.status is None:
            self._write(INTERIM)
        elif exchange.filler:
            self._write(h11.Data(data=exchange.filler))

    def _advance(self) -> None:
        """Begins the next request if its head has come."""
        head = None
        try:
            head = self._input.take_head()
            incoming = None if head is None else Incoming(head, self._input.data)
        except ApiError as error:
            self._refuse(error, head or bytes(self._input.data))
            return
        if incoming is not None:
            self._begin(incoming)
        elif self._is_at_end:
            self._transport.close()
        else:
            self._await_head()

    def _await_head(self) -> None:
        if self._input.data:
            if self._is_idle or not self._timer.is_started:
                self._is_idle = False
                self._timer.start(self._options.read_timeout, self._refuse_late_head)
        elif not self._timer.is_started:
            self._is_idle = True
            self._timer.start(self._options.keepalive_timeout, self._transport.close)

    def _begin(self, incoming: Incoming) -> None:
        options = self._options
        self._timer.stop()
        self._incoming = incoming
        clock = BodyClock(self._loop.time(), options.read_timeout, options.body_timeout)
        self._body = BodyReader(incoming, self._before_wait, clock, options.turns)
        self._exchange = Exchange(incoming.request, self, options.dialect, options.scheme)
        self._exchange.expose = options.expose_to(self._exchange.headers.get("origin", ""))
        self._task = self._loop.create_task(self._run(self._exchange))
        self._task.add_done_callback(self._ended)
        self._update_reading()

    async def _run(self, exchange: Exchange) -> None:
        if self._is_too_many:
            error = unavailable("The server has as many connections as it can take")
            await exchange.refuse(closing(error))
        else:
            await self._options.handler(exchange)
        self._exchange = None
        if self._may_go_on():
            await self._discard_body()

    async def _discard_body(self) -> None:
        """Reads what is left of a body that nobody wanted, for as long as a head may take."""
        timeout = self._options.read_timeout
        try:
            await self._body.discard(BodyClock(self._loop.time(), timeout, timeout))
        except ApiError:
            self._is_last = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = self._exchange = None
        if not task.cancelled() and task.exception() is not None:
            logger.error("a request failed", exc_info=task.exception())
        if self._is_lost:
            return
        may_go_on, self._incoming = self._may_go_on(), None
        if not may_go_on:
            self._hang_up()
        elif self._input.data:
            self._task = self._loop.create_task(self._advance_in_turn())
        else:
            self._update_reading()
            self._advance()

    async def _advance_in_turn(self) -> None:
        """A request that came before its time waits for those of other connections."""
        await self._options.turns.wait()
        self._task = None
        self._update_reading()
        self._advance()

    def _may_go_on(self) -> bool:
        """Whether the request is answered, and others may follow it on this connection."""
        is_done = self._incoming is not None and self._incoming.http.our_state is h11.DONE
        return is_done and not self._is_last

    def _refuse(self, error: ApiError, head: bytes) -> None:
        """Answers what is no request, and hangs up. The head may be a part of one."""
        logger.debug("%s is refused: %s", self.address, error.message)
        self._output.write(self._options.refusal(error, head))
        self._hang_up()

    def _refuse_late_head(self) -> None:
        self._refuse(late(self._options.read_timeout), bytes(self._input.data))

    def _hang_up(self) -> None:
        """Ends the connection once the client has seen the answer."""
        self._linger.begin(is_at_end=self._is_at_end)
        self._update_reading()

    def _write(self, *events: h11.Event) -> None:
        if self._incoming is not None:
            self._output.write(encoded(self._incoming.http, *events))

    def _before_wait(self) -> None:
        if self._incoming is not None and self._incoming.http.they_are_waiting_for_100_continue:
            self._write(INTERIM)
        self._update_reading()

    def _update_reading(self) -> None:
        """Reads on, unless there is something that nobody has asked for yet."""
        if self._transport.is_closing() or self._is_at_end:
            return
        is_wanted = (
            self._incoming is None
            or self._body.is_waiting
            or self._linger.has_begun
            or not self._input.data
        )
        if is_wanted and self.is_paused:
            self._transport.resume_reading()
        elif not is_wanted and not self.is_paused:
            self._transport.pause_reading()
            self._liveness.look_later()
        self.is_paused = not is_wanted
