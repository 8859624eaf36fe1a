"""The line that each HTTP request leaves in the log, and what its span tells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from rapport.gateway.access_log import (
    MAX_PATH_CHARACTERS,
    fault,
    fields_of,
    span_attributes,
    span_name,
)
from rapport.gateway.http1.exchange import Exchange
from tests.gateway.library import Library
from tests.gateway.peers import exchange

ID = {"x-request-id": "r-1"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

LogLine = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture
def log_line(caplog: pytest.LogCaptureFixture) -> LogLine:
    """The fields of the one line on the request r-1."""
    caplog.set_level(logging.INFO, "gateway.access")

    def lines() -> list[dict[str, Any]]:
        made = [vars(record).get("fields", {}) for record in caplog.records]
        return [line for line in made if "path" in line and line["request_id"] == "r-1"]

    async def one() -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not lines():  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
        [line] = lines()
        return line

    return one


async def test_whole_answer(client: httpx.AsyncClient, log_line: LogLine) -> None:
    """The route is named by its pattern; what was sent is counted; the trace is the caller's."""
    trace = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    reply = await client.get("/v1/books/7?shelf=a", headers=ID | trace)
    line = await log_line()
    assert 0 < line.pop("ttfb_seconds") <= line.pop("duration_seconds")
    assert line == {
        "request_id": "r-1",
        "trace_id": TRACE,
        "method": "GET",
        "path": "/v1/books/7",
        "route": "/v1/books/{number}",
        "status": 200,
        "streamed": False,
        "sent_bytes": len(reply.content),
    }


async def test_stream(client: httpx.AsyncClient, log_line: LogLine) -> None:
    """A stream's first byte comes before its last, and all its bytes are counted."""
    body = {"stream": True, "count": 3, "size": 10, "pause_ms": 50}
    reply = await client.post("/v1/tell", json=body, headers=ID)
    line = await log_line()
    assert (line["streamed"], line["sent_bytes"]) == (True, len(reply.content))
    assert line["ttfb_seconds"] + 0.1 < line["duration_seconds"]


async def test_unknown_path(client: httpx.AsyncClient, log_line: LogLine) -> None:
    """What is no route has none, and its path is cut."""
    await client.get("/" + "x" * 1000, headers=ID)
    line = await log_line()
    assert (line["status"], line.get("route")) == (404, None)
    assert len(line["path"]) == MAX_PATH_CHARACTERS


async def test_page(client: httpx.AsyncClient, log_line: LogLine) -> None:
    """The gateway's own pages are their own routes."""
    await client.get("/health", headers=ID)
    assert (await log_line())["route"] == "/health"


async def test_stream_that_fails(client: httpx.AsyncClient, log_line: LogLine) -> None:
    """A stream that began with a 200 and failed is logged as a failure."""
    body = {"stream": True, "count": 3, "fail_after": 1, "code": 13, "message": "private"}
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/v1/tell", json=body, headers=ID)
    line = await log_line()
    assert (line["status"], line["streamed"]) == (500, True)
    assert "private" not in str(line)


async def test_client_that_leaves(
    client: httpx.AsyncClient, library: Library, log_line: LogLine
) -> None:
    """A client that leaves mid-stream is logged as 499, with what was sent until then."""
    body = {"stream": True, "count": 3, "hang_after": 1}
    async with client.stream("POST", "/v1/tell", json=body, headers=ID) as reply:
        first = await anext(reply.aiter_raw())
    await asyncio.wait_for(library.ended.wait(), 5)
    line = await log_line()
    assert (line["status"], line["sent_bytes"]) == (499, len(first))


def ended(status: int | None, route: str | None = "/v1/books/{number}") -> Exchange:
    made = exchange(method="GET", path="/v1/books/7")
    made.status, made.route = status, route
    return made


def test_span_tells_of_the_route() -> None:
    """A span is named by method and route, with HTTP's attributes."""
    made = ended(200)
    assert span_name(made) == "GET /v1/books/{number}"
    assert span_attributes(made) == {
        "http.request.method": "GET",
        "url.path": "/v1/books/7",
        "url.scheme": "http",
        "http.route": "/v1/books/{number}",
        "http.response.status_code": 200,
        "rapport.request_id": made.request_id,
    }


def test_span_without_a_route_tells_nothing_of_one() -> None:
    """An unknown path names no span: there are too many."""
    made = ended(404, route=None)
    assert span_name(made) == "GET"
    assert "http.route" not in span_attributes(made)


@pytest.mark.parametrize(
    ("status", "log_line"),
    [(200, ""), (404, ""), (499, ""), (500, "500"), (503, "503"), (None, "500")],
)
def test_faults_are_the_servers(status: int | None, log_line: str) -> None:
    """From 500 on it is the server that failed, and so it is without any answer."""
    assert fault(ended(status)) == log_line


def test_no_trace_is_left_out() -> None:
    """Outside a trace there is no id of one."""
    assert fields_of(ended(200), "")["trace_id"] is None
