"""A light client of streamed chat completions: it shares the cores with the server it times."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import orjson

from bench.clients import PATH, note_event
from bench.errors import RequestFailedError
from bench.measure import Record
from bench.sse import EventReader

OK = 200


@dataclass(slots=True)
class Answer(Record):
    """A record with the text that came."""

    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Stream(asyncio.Protocol):
    """One request on a connection of its own. httptools calls the methods named `on_`."""

    def __init__(self, request: bytes, answer: Answer) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._answer = answer
        self._parser = httptools.HttpResponseParser(self)
        self._events = EventReader()
        self._now = 0.0
        self._done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asked with isinstance: uvloop's transports are none of asyncio's.
        cast(asyncio.WriteTransport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._now = perf_counter()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError, LookupError) as error:
            cause = error.__context__
            self._end(
                cause if isinstance(cause, RequestFailedError) else RequestFailedError(repr(error))
            )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._end(RequestFailedError("stream cut off"))

    def on_body(self, body: bytes) -> None:
        if (status := self._parser.get_status_code()) != OK:
            raise RequestFailedError(f"HTTP {status}")
        for payload in self._events.feed(body):
            if payload == b"[DONE]":
                self._done = True
            else:
                self._note(orjson.loads(payload))

    def on_message_complete(self) -> None:
        whole = self._done and self._answer.finished is not None
        self._end(None if whole else RequestFailedError("stream cut off"))

    def _note(self, event: Mapping[str, Any]) -> None:
        note_event(event, self._now, self._answer)
        for choice in event["choices"]:
            if text := choice["delta"].get("content"):
                self._answer.pieces.append(text)

    def _end(self, error: RequestFailedError | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


class Wire:
    """Sends chat completions to one server and times what comes back."""

    def __init__(self, base_url: str, model: str, limit: float) -> None:
        """`limit` is the seconds that one request may take."""
        parts = urlsplit(base_url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._model = model
        self._limit = limit

    async def ask(self, body: Mapping[str, Any], late: float = 0.0) -> Answer:
        """Streams one completion. What goes wrong is in the answer's `error`."""
        request = self._request(body)
        answer = Answer(perf_counter(), late)
        try:
            async with asyncio.timeout(self._limit):
                await self._exchange(request, answer)
        except TimeoutError:
            answer.error = "out of time"
        except (RequestFailedError, OSError) as failed:
            answer.error = str(failed)
        answer.ended = perf_counter()
        return answer

    async def _exchange(self, request: bytes, answer: Answer) -> None:
        loop = asyncio.get_running_loop()
        transport, stream = await loop.create_connection(
            lambda: Stream(request, answer), self._host, self._port
        )
        try:
            await stream.ended
        finally:
            transport.abort()

    def _request(self, body: Mapping[str, Any]) -> bytes:
        options = {"include_usage": True}
        content = orjson.dumps(
            {"model": self._model, "stream": True, "stream_options": options, **body}
        )
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content
