"""Whether callers take what they are sent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from rapport.service.errors import SlowReaderError

logger = logging.getLogger(__name__)

# Seconds between two looks at least: uvloop's timers know no less, and are early by as much.
TICK = 0.001

# Says of a caller that went while it was sent a message that a servicer raised this.
GRPC_LOG, GONE = "grpc._cython.cygrpc", "ExecuteBatchError"

Fail = Callable[[Exception], Awaitable[None]]
"""Ends an RPC with the status of an error."""


def log_no_goodbyes() -> None:
    """Leaves callers that went in the middle of a message to the access log, from now on."""
    logging.getLogger(GRPC_LOG).addFilter(_is_an_error)


def _is_an_error(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != GONE


class Reader:
    """A caller that is sent a stream: `give_up` is called once a message takes too long.

    One timer for all messages looks when the latest began: one for each costs a third of
    what it takes to make a message.
    """

    def __init__(self, patience: float, give_up: Callable[[], None]) -> None:
        self._patience = patience
        self._give_up = give_up
        self._since: float | None = None
        self._wait(patience)

    def sending(self) -> None:
        """Notes that a message is being sent from now on."""
        self._since = time.monotonic()

    def sent(self) -> None:
        """Notes that the message has been taken."""
        self._since = None

    def close(self) -> None:
        """Waits for this caller no longer."""
        self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(seconds, TICK), self._look)

    def _look(self) -> None:
        waited = time.monotonic() - self._since if self._since is not None else 0.0
        if waited < self._patience:
            self._wait(self._patience - waited)
        else:
            self._give_up()


class Readers:
    """Gives up RPCs whose callers take nothing for `patience` seconds. For the event loop.

    A caller that reads slowly takes a message after the other, and is waited for.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._ends: set[asyncio.Task[None]] = set()

    @contextmanager
    def watched(self, fail: Fail, request_id: str) -> Iterator[Reader]:
        """Surrounds a stream in an RPC's task, which may be cancelled in it."""
        task = asyncio.current_task()
        assert task is not None, "an RPC is a task"  # noqa: S101 - an invariant
        reader = Reader(self._patience, partial(self._give_up, task, fail, request_id))
        try:
            yield reader
        finally:
            reader.close()

    def _give_up(self, task: asyncio.Task[Any], fail: Fail, request_id: str) -> None:
        logger.warning(
            "request %s is given up: nothing of its answer was read for %g s",
            request_id,
            self._patience,
        )
        ending = asyncio.ensure_future(self._end(task, fail))
        self._ends.add(ending)
        ending.add_done_callback(self._ends.discard)

    async def _end(self, task: asyncio.Task[Any], fail: Fail) -> None:
        # The status waits behind what was sent, for a caller that reads on after all; the
        # RPC's task and all that it holds do not wait.
        failing = asyncio.ensure_future(fail(SlowReaderError(self._patience)))
        await asyncio.sleep(0)
        task.cancel()
        # That is how gRPC says that the status was sent; and if it cannot be, nobody is there.
        with suppress(Exception):
            await failing
