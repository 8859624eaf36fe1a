"""The sending side of a connection, for clients that read slowly or not at all."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

from prometheus_client import Counter

logger = logging.getLogger(__name__)

# A client is seen to be stuck this part of its time too late at most.
CHECKS_PER_TIMEOUT = 4
NO_LINGER = struct.pack("ii", 1, 0)


class Output:
    """While the kernel takes no more, nothing is written, and the client's reading is watched.

    A buffer that does not get smaller is one that nobody reads from, however slowly.
    """

    def __init__(
        self, transport: asyncio.Transport, reader_timeout: float, stuck_readers: Counter
    ) -> None:
        """`reader_timeout` is in seconds; a client that reads nothing for so long is cut."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._reader_timeout = reader_timeout
        self._stuck_readers = stuck_readers
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._check: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Has the transport call `pause` and `resume`, at once if bytes of a handshake are left."""
        # Bytes that stay in the buffer are noticed however few they are. (TLS takes no 0.)
        self._transport.set_write_buffer_limits(high=1, low=0)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        """Waits until the kernel has taken all, or the connection is lost."""
        if not self._has_room.is_set():
            await self._has_room.wait()

    def pause(self) -> None:
        """The kernel takes no more for now."""
        self._has_room.clear()
        self._look(self._transport.get_write_buffer_size(), self._loop.time())

    def resume(self) -> None:
        """The kernel has taken all, or the connection is lost."""
        if self._check is not None:
            self._check.cancel()
            self._check = None
        self._has_room.set()

    def _look(self, left: int, since: float) -> None:
        """Cuts the client if as many bytes are left as there were so long ago."""
        now, size = self._loop.time(), self._transport.get_write_buffer_size()
        if size < left:
            left, since = size, now
        if now - since >= self._reader_timeout:
            self._cut()
            return
        pause = self._reader_timeout / CHECKS_PER_TIMEOUT
        self._check = self._loop.call_later(pause, self._look, left, since)

    def _cut(self) -> None:
        self._stuck_readers.inc()
        client = self._transport.get_extra_info("peername")
        logger.warning("%s is cut: it read nothing for %g s", client, self._reader_timeout)
        # Otherwise the kernel would keep what it has, and go on trying.
        connected: socket.socket = self._transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._transport.abort()
