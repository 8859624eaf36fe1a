"""Ending RPCs whose clients have stopped reading."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from rapport.service.errors import SlowReaderError
from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.unread_answers import UnreadAnswers

logger = logging.getLogger(__name__)

# The shortest time between two checks: uvloop's timers have this resolution, and may be early by
# as much.
MIN_CHECK_INTERVAL_S = 0.001


class ReadWatch:
    """Watches one RPC, and calls `on_timeout` when the client does not take a message in time.

    A single timer checks when the latest message began: a timer for each message would cost a
    third of what it takes to make the message.
    """

    def __init__(self, timeout_s: float, on_timeout: Callable[[], None]) -> None:
        self._timeout_s = timeout_s
        self._on_timeout = on_timeout
        self._sending_since: float | None = None
        self.timed_out = False
        self._check_after(timeout_s)

    def start_message(self) -> None:
        """Notes that a message is being sent from now on."""
        self._sending_since = time.monotonic()

    def end_message(self) -> None:
        """Notes that the message was taken."""
        self._sending_since = None

    def close(self) -> None:
        """Stops watching."""
        self._timer.cancel()

    def _check_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(seconds, MIN_CHECK_INTERVAL_S), self._check)

    def _check(self) -> None:
        since = self._sending_since
        waited = time.monotonic() - since if since is not None else 0.0
        if waited < self._timeout_s:
            self._check_after(self._timeout_s - waited)
        else:
            self.timed_out = True
            self._on_timeout()


class SlowReaderGuard:
    """Ends RPCs whose clients take no message for `timeout_s` seconds. For the event loop alone.

    A client that reads slowly takes one message after another, and is waited for.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._unread = UnreadAnswers()
        self._ending: set[asyncio.Task[None]] = set()

    @contextmanager
    def watch(self, context: RequestContext, unread_bytes: int = 0) -> Iterator[ReadWatch]:
        """Watches an RPC from within its task, which may be cancelled meanwhile.

        `unread_bytes` is the size of an answer that is sent whole.

        Raises:
            OverloadedError: the caller has not read too much of earlier answers.
        """
        task = asyncio.current_task()
        assert task is not None, "an RPC is a task"  # noqa: S101 - an invariant
        self._unread.hold(context.caller, unread_bytes)
        release = partial(self._unread.release, context.caller, unread_bytes)
        watch = ReadWatch(self._timeout_s, partial(self._give_up, task, context, release))
        try:
            yield watch
        finally:
            watch.close()
            if not watch.timed_out:
                release()

    def _give_up(
        self, task: asyncio.Task[Any], context: RequestContext, release: Callable[[], None]
    ) -> None:
        logger.warning(
            "request %s is aborted: the client read nothing of the answer for %g s",
            context.request_id,
            self._timeout_s,
        )
        ending = asyncio.ensure_future(self._end(task, context))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        # gRPC keeps what was sent until the client reads on or hangs up.
        ending.add_done_callback(lambda _: release())

    async def _end(self, task: asyncio.Task[Any], context: RequestContext) -> None:
        # The status waits behind what was sent before, for a client that reads on after all. The
        # RPC's task, and all that it holds, does not wait.
        aborting = asyncio.ensure_future(context.abort(SlowReaderError(self._timeout_s)))
        await asyncio.sleep(0)
        task.cancel()
        # gRPC raises when the status was sent; and if it cannot be sent, nobody is there.
        with suppress(Exception):
            await aborting
