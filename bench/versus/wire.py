"""A light client of streamed chat completions: it shares the cores with the server it times."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast
from urllib.parse import urlsplit

import h11
import orjson

from bench.clients import PATH, note_event
from bench.errors import RequestFailedError
from bench.measure import Record
from bench.sse import EventReader

OK = 200
Request = tuple[h11.Request, h11.Data, h11.EndOfMessage]


@dataclass(slots=True)
class Answer(Record):
    """A record with the text that came."""

    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Stream(asyncio.Protocol):
    """One request on a connection of its own."""

    def __init__(self, request: Request, answer: Answer) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._answer = answer
        self._http = h11.Connection(h11.CLIENT)
        self._events = EventReader()
        self._now = 0.0
        self._done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asked with isinstance: uvloop's transports are none of asyncio's.
        sent = b"".join(self._http.send(event) for event in self._request)
        cast(asyncio.WriteTransport, transport).write(sent)

    def data_received(self, data: bytes) -> None:
        self._now = perf_counter()
        try:
            self._http.receive_data(data)
            self._read()
        except RequestFailedError as error:
            self._end(error)
        except (h11.RemoteProtocolError, ValueError, LookupError) as error:
            self._end(RequestFailedError(repr(error)))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._end(RequestFailedError("stream cut off"))

    def _read(self) -> None:
        while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Response) and event.status_code != OK:
                raise RequestFailedError(f"HTTP {event.status_code}")
            if isinstance(event, h11.Data):
                self._take(event.data)
            elif isinstance(event, h11.EndOfMessage):
                whole = self._done and self._answer.finished is not None
                self._end(None if whole else RequestFailedError("stream cut off"))

    def _take(self, body: bytes) -> None:
        for payload in self._events.feed(body):
            if payload == b"[DONE]":
                self._done = True
            else:
                self._note(orjson.loads(payload))

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

    async def _exchange(self, request: Request, answer: Answer) -> None:
        loop = asyncio.get_running_loop()
        transport, stream = await loop.create_connection(
            lambda: Stream(request, answer), self._host, self._port
        )
        try:
            await stream.ended
        finally:
            transport.abort()

    def _request(self, body: Mapping[str, Any]) -> Request:
        options = {"include_usage": True}
        content = orjson.dumps(
            {"model": self._model, "stream": True, "stream_options": options, **body}
        )
        headers = [
            ("host", f"{self._host}:{self._port}"),
            ("content-type", "application/json"),
            ("content-length", str(len(content))),
        ]
        head = h11.Request(method="POST", target=PATH, headers=headers)
        return head, h11.Data(data=content), h11.EndOfMessage()
