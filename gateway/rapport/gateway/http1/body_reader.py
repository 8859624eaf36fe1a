"""The body of a request as it comes, which may not take for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from rapport.gateway.errors import ApiError, bad_request, closing
from rapport.gateway.http1.parser import Incoming
from rapport.gateway.http1.turns import Turns

# Bytes per second that a body must bring once its first time is over.
MIN_BODY_RATE = 1024
# Pieces, which may be a byte each, that are parsed in one turn.
PIECES_PER_TURN = 16


@dataclass(slots=True)
class BodyClock:
    """Each byte earns a body time, up to a limit for all of it. Times are in seconds."""

    began: float
    """On the event loop's clock."""
    read_timeout: float
    body_timeout: float
    received_bytes: int = 0

    @property
    def deadline(self) -> float:
        """When the next byte must have come, on the event loop's clock."""
        return self.began + min(self._earned, self.body_timeout)

    @property
    def error(self) -> ApiError:
        """What a late body gets."""
        is_slow = self._earned < self.body_timeout
        return late(self.read_timeout if is_slow else self.body_timeout)

    @property
    def _earned(self) -> float:
        return self.read_timeout + self.received_bytes / MIN_BODY_RATE


class BodyReader:
    """Gives the pieces of a body to one who waits for them."""

    def __init__(
        self, incoming: Incoming, before_wait: Callable[[], None], clock: BodyClock, turns: Turns
    ) -> None:
        """`before_wait` has the connection read on."""
        self._clock = clock
        self._turns = turns
        self._incoming = incoming
        self._before_wait = before_wait
        self._more: asyncio.Future[None] | None = None
        self._error: ApiError | None = None
        self._pieces = 0

    @property
    def is_waiting(self) -> bool:
        return self._more is not None and not self._more.done()

    def received(self, size: int) -> None:
        """Says that the connection has received bytes."""
        self._clock.received_bytes += size
        self._wake()

    def refuse(self, error: ApiError) -> None:
        """Has `next` raise the error."""
        self._error = error
        self._wake()

    async def next(self) -> bytes:
        """The next piece, nothing at the end.

        Raises:
            ApiError: the body is not valid, is late, or was refused.
        """
        while (piece := self._piece()) is None:
            await self._wait()
        self._pieces += 1
        if self._pieces % PIECES_PER_TURN == 0:
            await self._turns.wait()
        return piece

    async def discard(self, clock: BodyClock) -> None:
        """Reads what is left, for as long as the clock allows. Raises ApiError as `next`."""
        self._clock = clock
        while await self.next():
            pass

    def _piece(self) -> bytes | None:
        if self._error is not None:
            raise self._error
        return self._incoming.read()

    async def _wait(self) -> None:
        self._more = asyncio.get_running_loop().create_future()
        self._before_wait()
        try:
            async with asyncio.timeout_at(self._clock.deadline):
                await self._more
        except TimeoutError:
            raise self._clock.error from None

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)


def late(timeout: float) -> ApiError:
    """An error for a request that did not come within so many seconds."""
    text = f"The request did not come within {timeout:g} s"
    return closing(bad_request(text, status=HTTPStatus.REQUEST_TIMEOUT))
