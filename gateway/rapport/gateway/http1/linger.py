"""The end of a connection whose client may still be sending."""

from __future__ import annotations

import asyncio

from rapport.gateway.http1.timer import Timer

# What a client may still send after its last answer, so that it sees that one and no reset.
LINGER_S = 2.0
LINGER_BYTES = 1 << 20


class Linger:
    """Takes and drops what comes after the last answer, within bounds, then closes."""

    def __init__(self, transport: asyncio.Transport, timer: Timer) -> None:
        self._transport = transport
        self._timer = timer
        self._received_bytes = 0
        self.has_begun = False

    def begin(self, *, is_at_end: bool) -> None:
        """Says that no more is sent. Closes at once where the client sends no more either.

        TLS has no half to close.
        """
        self._timer.stop()
        if is_at_end or not self._transport.can_write_eof():
            self._transport.close()
            return
        self.has_begun = True
        self._transport.write_eof()
        self._timer.start(LINGER_S, self._transport.close)

    def received(self, nbytes: int) -> None:
        """Counts bytes that nobody reads."""
        self._received_bytes += nbytes
        if self._received_bytes > LINGER_BYTES:
            self._transport.close()
