"""One HTTP request and its response."""

from __future__ import annotations

import re
import time
import uuid
from typing import Protocol

import h11

from rapport.common.request_ids import VALID_REQUEST_ID
from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import ApiError, bad_request
from rapport.gateway.http1.body_budget import HeldBody
from rapport.gateway.http1.content_coding import coding_of, decompressed, too_large
from rapport.gateway.http1.parser import Request
from rapport.gateway.http1.responses import Expose, Headers, rendered, response_head

_JSON_TYPE = re.compile(r"application/(json|[^;\s]+\+json)\s*(;.*)?", re.IGNORECASE)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# A year. gRPC takes thousands of them for a time that has passed.
MAX_TIMEOUT_S = 365 * 24 * 3600.0
# Bytes of a whole body that are sent at once. TLS takes any number of them, and only at the next
# ones tells that the client reads none.
MAX_SEND_BYTES = 64 << 10


class Peer(Protocol):
    """The connection that a request came on."""

    @property
    def address(self) -> str:
        """The client's, without its port."""

    @property
    def closes(self) -> bool:
        """Whether the connection ends with the response."""

    async def read_body(self) -> bytes:
        """The next piece of the request's body, nothing at its end. Raises ApiError."""

    async def send(self, *events: h11.Event) -> None:
        """Sends parts of the response; waits while the client reads slowly."""

    def refuse_body(self, error: ApiError) -> None:
        """Has `read_body` raise the error."""


class Exchange:
    """A request to read and a response to write; status is None until that has begun.

    When the client leaves before the response is finished, its task is cancelled.
    """

    def __init__(self, request: Request, peer: Peer, dialect: Dialect, scheme: str) -> None:
        self._dialect = dialect
        self._peer = peer
        self.began = time.monotonic()
        self.request = request
        self.method = request.method
        self.scheme = scheme
        self.path = request.path
        self.query = request.query
        self.headers = dict(request.headers)
        given = self.headers.get("x-request-id", "")
        self.request_id = given if VALID_REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        self._coding: str | None = None
        """The content coding of the body."""
        self.expose: Expose = lambda _: {}
        self.trace: Headers = {}
        """The headers that pass the trace on, `traceparent` and `tracestate`."""
        self.route: str | None = None
        """The path with its variables unfilled, once it is known."""
        self.status: int | None = None
        """As sent; what became of a stream that did not come to its end."""
        self.streamed = False
        self.disconnected = False
        """Whether the client left before the response was finished."""
        self.finished = False
        self.filler = b""
        """What may be sent between two pieces of the body and means nothing."""
        self.received_bytes = 0
        self.sent_bytes = 0
        """Of the bodies."""
        self.ttfb: float | None = None
        """Seconds until the response began."""

    @property
    def duration(self) -> float:
        return time.monotonic() - self.began

    @property
    def address(self) -> str:
        """The client's, without its port."""
        return self._peer.address

    def check_headers(self) -> None:
        """Raises a 400 for credentials given twice: others would read others."""
        names = [name for name, _ in self.request.headers]
        if names.count("authorization") > 1:
            raise bad_request("There should be one Authorization header")

    def require_json(self) -> None:
        """Raises a 415 unless the body is declared to be JSON, in UTF-8 and a coding known here."""
        kind = self._all_values("content-type")
        if not _JSON_TYPE.fullmatch(kind):
            raise bad_request("The Content-Type should be application/json", status=415)
        charset = _CHARSET.search(kind)
        if charset and charset[1].lower() not in _UTF8:
            raise bad_request("The charset of the body should be UTF-8", status=415)
        self._coding = coding_of(self._all_values("content-encoding"))

    def _all_values(self, name: str) -> str:
        """A header's values as one (RFC 9110, 5.3): who reads the first or the last is misled."""
        return ", ".join(value for each, value in self.request.headers if each == name)

    @property
    def is_compressed(self) -> bool:
        """Whether the body has to be decompressed, once `require_json` was called."""
        return self._coding is not None

    def decompressed(self, body: bytes, limit: int) -> bytes:
        """The body as it was before it was compressed. Takes some milliseconds for a large one.

        Raises ApiError if it is not valid, or larger than the limit.
        """
        return body if self._coding is None else decompressed(body, self._coding, limit)

    def timeout(self) -> float | None:
        """The caller's deadline in seconds from now, from the grpc-timeout header."""
        header = self.headers.get("grpc-timeout")
        if header is None:
            return None
        match = _TIMEOUT.fullmatch(header)
        if match is None:
            raise bad_request("The grpc-timeout header should be like 30S or 500m")
        return min(int(match[1]) * _SECONDS[match[2]], MAX_TIMEOUT_S)

    async def body(self, limit: int, held: HeldBody) -> bytes:
        """The body; a 413 as soon as it is known to be over the limit, in bytes."""
        if (self.request.length or 0) > limit:
            raise too_large(limit)
        body = bytearray()
        try:
            while piece := await self._peer.read_body():
                self.received_bytes += len(piece)
                body += piece
                if len(body) > limit:
                    raise too_large(limit)
                held.add(len(piece))
            held.is_complete = True
            return bytes(body)
        finally:
            body.clear()  # a traceback may keep it

    def refuse_body(self, error: ApiError) -> None:
        """Has `body` raise the error, if it has not returned."""
        self._peer.refuse_body(error)

    async def respond(self, status: int, body: bytes, headers: Headers) -> None:
        """Sends all of a response; waits while the client reads slowly."""
        head = self._head(status, {**headers, "content-length": str(len(body))})
        last = max(len(body) - 1, 0) // MAX_SEND_BYTES * MAX_SEND_BYTES
        for begin in range(0, last, MAX_SEND_BYTES):
            await self._send(*head, *self._data(body[begin : begin + MAX_SEND_BYTES]))
            head = ()
        self.finished = True
        await self._send(*head, *self._data(body[last:]), h11.EndOfMessage())

    async def refuse(self, error: ApiError) -> None:
        body, headers = rendered(error, self._dialect)
        await self.respond(error.status, body, headers)

    async def start(self, status: int, headers: Headers, *, filler: bytes = b"") -> None:
        """Begins a response whose body comes in pieces; see `Exchange.filler`."""
        self.filler = filler
        await self._send(*self._head(status, headers))

    async def write(self, chunk: bytes) -> None:
        """Sends a piece of the body; waits while the client reads slowly."""
        self.streamed = True
        await self._send(*self._data(chunk))

    async def finish(self, chunk: bytes) -> None:
        """Sends the last piece. A response that is begun and not finished is aborted."""
        self.finished = True
        await self._send(*self._data(chunk), h11.EndOfMessage())

    async def _send(self, *events: h11.Event) -> None:
        await self._peer.send(*events)

    def _head(self, status: int, headers: Headers) -> tuple[h11.Event, ...]:
        self.status, self.ttfb = status, self.duration
        last = {"connection": "close"} if self._peer.closes else {}
        shown = {**headers, **self.expose(headers), **last}
        return (response_head(status, shown, self.request_id),)

    def _data(self, chunk: bytes) -> tuple[h11.Event, ...]:
        if self.method == "HEAD":
            return ()
        self.sent_bytes += len(chunk)
        return (h11.Data(data=chunk),)
