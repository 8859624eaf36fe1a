"""HTTP/1.1 that waits for no request forever and takes no head of any size."""

from __future__ import annotations

import asyncio
import enum
import uuid
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import ApiError, bad_request

MAX_HEAD_BYTES = 64 << 10
# Bytes per second that a body must bring once its first time is over.
MIN_BODY_RATE = 1024


class Phase(enum.Enum):
    """What is read from a connection."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose requests are bounded: their heads in size, all of them in time."""

    def __init__(self, *args: Any, read_timeout: float, dialect: Dialect, **kwargs: Any) -> None:
        """`read_timeout` is in seconds, for a head, and for a body besides what its size earns."""
        super().__init__(*args, **kwargs)
        self._read_timeout = read_timeout
        self._dialect = dialect
        self._phase = Phase.IDLE
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._enter(Phase.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self._enter(Phase.IDLE)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes on what has come, in pieces that show in time that a head is too large."""
        while data and not self.transport.is_closing():
            if self._phase is Phase.IDLE:
                self._enter(Phase.HEAD)
            size = MAX_HEAD_BYTES if self._phase is Phase.HEAD else len(data)
            self._pass_on(data[:size])
            data = data[size:]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._phase is not Phase.HEAD:
            self._enter(Phase.HEAD)

    def on_headers_complete(self) -> None:
        self._enter(Phase.BODY)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._enter(Phase.IDLE)
        super().on_message_complete()

    def _pass_on(self, piece: bytes) -> None:
        timer = self._timer
        super().data_received(piece)
        if self._timer is timer:  # the piece was of one phase alone
            self._bytes += len(piece)
        if self._phase is not Phase.HEAD or self.transport.is_closing():
            return
        if self._bytes > MAX_HEAD_BYTES:
            text = f"The request's line and headers are larger than {MAX_HEAD_BYTES} bytes"
            self._refuse(bad_request(text, status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))

    def _enter(self, phase: Phase) -> None:
        self._phase, self._bytes = phase, 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if phase is not Phase.IDLE:
            self._wait(self.loop.time())

    def _wait(self, since: float) -> None:
        earned = self._bytes / MIN_BODY_RATE if self._phase is Phase.BODY else 0
        due = since + self._read_timeout + earned
        self._timer = self.loop.call_at(due, self._check, since, self._bytes)

    def _check(self, since: float, counted: int) -> None:
        """Hangs up on a request that has not come, unless that is not the client's doing."""
        if self._is_held():
            self._wait(self.loop.time())
        elif self._phase is Phase.BODY and self._bytes > counted:
            self._wait(since)
        else:
            text = f"The request did not come within {self._read_timeout:g} s"
            self._refuse(bad_request(text, status=HTTPStatus.REQUEST_TIMEOUT))

    def _is_held(self) -> bool:
        """Whether an answer to an earlier request goes first, or nothing is read now."""
        answers_earlier = (
            self._phase is Phase.HEAD
            and self.cycle is not None
            and not self.cycle.response_complete
        )
        return answers_earlier or bool(self.pipeline) or self.flow.read_paused

    def _refuse(self, error: ApiError) -> None:
        """Answers in the place of the application, if nobody has begun to, and hangs up."""
        answered = self._phase is Phase.BODY and self.cycle.response_started
        if not (answered or self._is_held()):
            body = orjson.dumps(self._dialect.error_body(error))
            lines = [
                *self.server_state.default_headers,
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
                (b"x-request-id", str(uuid.uuid4()).encode()),
            ]
            head = b"".join(b"%s: %s\r\n" % line for line in lines)
            self.transport.write(STATUS_LINE[error.status] + head + b"\r\n" + body)
        self.transport.close()
