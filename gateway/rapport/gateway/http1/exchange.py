"""One HTTP request and its response, over ASGI."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import orjson

from rapport.gateway.dialects.dialect import Dialect
from rapport.gateway.errors import ApiError, bad_request

Headers = Mapping[str, str]
_Result = TypeVar("_Result")

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_JSON_TYPE = re.compile(r"application/(json|[^;\s]+\+json)\s*(;.*)?", re.IGNORECASE)
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# A year. gRPC takes thousands of them for a time that has passed.
LONGEST_TIMEOUT = 365 * 24 * 3600.0
# Bytes of a whole body that are sent at once. TLS takes any number of them, and only at the next
# ones tells that the client reads none.
PIECE = 64 << 10


class DisconnectedError(Exception):
    """The client went before it had its answer."""


class Exchange:
    """A request to read and a response to write; status is None until that has begun."""

    def __init__(self, scope: Any, receive: Any, send: Any, dialect: Dialect) -> None:
        self._dialect = dialect
        self._receive = receive
        self._send = send
        self.began = time.monotonic()
        self.method: str = scope["method"]
        self.scheme: str = scope.get("scheme", "http")
        self.path: str = scope["raw_path"].decode("ascii")
        self.query: bytes = scope["query_string"]
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        self.trace: Headers = {}
        """The headers that pass the trace on, `traceparent` and `tracestate`."""
        self.route: str | None = None
        """The path with its variables unfilled, once it is known."""
        self.status: int | None = None
        """As sent; what became of a stream that did not come to its end."""
        self.streamed = False
        self.disconnected = False
        self.received_bytes = 0
        self.sent_bytes = 0
        """Of the bodies."""
        self.ttfb: float | None = None
        """Seconds until the response began."""
        self._finished = False

    @property
    def duration(self) -> float:
        return time.monotonic() - self.began

    def require_json(self) -> None:
        """Raises a 415 unless the body is declared to be JSON."""
        if not _JSON_TYPE.fullmatch(self.headers.get("content-type", "")):
            raise bad_request("The Content-Type should be application/json", status=415)

    def timeout(self) -> float | None:
        """The caller's deadline in seconds from now, from the grpc-timeout header."""
        header = self.headers.get("grpc-timeout")
        if header is None:
            return None
        match = _TIMEOUT.fullmatch(header)
        if match is None:
            raise bad_request("The grpc-timeout header should be like 30S or 500m")
        return min(int(match[1]) * _SECONDS[match[2]], LONGEST_TIMEOUT)

    async def body(self, limit: int) -> bytes:
        """The body; a 413 as soon as it is known to be over the limit, in bytes."""
        declared = self.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        body, more = bytearray(), True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            self.received_bytes += len(message["body"])
            body += message["body"]
            more = message["more_body"]
            if len(body) > limit:
                raise _too_large(limit)
        return bytes(body)

    async def attend(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Does the work, and cancels it when the client goes.

        The request must have been read. Raises DisconnectedError if the client went.
        """
        task, gone = asyncio.create_task(work), asyncio.create_task(self._gone())
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not self._finished:
                raise DisconnectedError
            return await task
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    async def respond(self, status: int, body: bytes, headers: Headers) -> None:
        """Sends all of a response; waits while the client reads slowly."""
        await self.start(status, {**headers, "content-length": str(len(body))})
        last = max(len(body) - 1, 0) // PIECE * PIECE
        for begin in range(0, last, PIECE):
            await self._put(body[begin : begin + PIECE], more=True)
        await self.finish(body[last:])

    async def refuse(self, error: ApiError) -> None:
        headers = {"content-type": "application/json", **error.headers}
        await self.respond(error.status, orjson.dumps(self._dialect.error_body(error)), headers)

    async def start(self, status: int, headers: Headers) -> None:
        self.status, self.ttfb = status, self.duration
        lines = {**headers, "x-request-id": self.request_id}
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in lines.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, chunk: bytes) -> None:
        """Sends a piece of the body; waits while the client reads slowly."""
        self.streamed = True
        await self._put(chunk, more=True)

    async def finish(self, chunk: bytes) -> None:
        """Sends the last piece. A response that is begun and not finished is aborted."""
        self._finished = True
        await self._put(chunk, more=False)

    async def _put(self, chunk: bytes, *, more: bool) -> None:
        self.sent_bytes += len(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _too_large(limit: int) -> ApiError:
    return bad_request(f"The body is larger than {limit} bytes", status=413)
