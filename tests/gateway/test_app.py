"""The application: bodies, content types, request ids, health and the access log."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tests.gateway.conftest import Serve, gateway, until_learned
from tests.gateway.library import Library, serving

JSON = {"content-type": "application/json"}


async def post(client: httpx.AsyncClient, body: bytes, **headers: str) -> httpx.Response:
    return await client.post("/v1/echo", content=body, headers={**JSON, **headers})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b'{"a_string": "\\ud800"}',
        b'{"a_string": "\xff"}',
        b"[" * 1025,
        b"[" * 150_000,
    ],
    ids=lambda body: body[:20],
)
async def test_malformed_json(client: httpx.AsyncClient, body: bytes) -> None:
    """A body that is no JSON, among it bad UTF-8 and endless nesting, is a 400."""
    reply = await post(client, body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request_error")
    assert error["message"].startswith("The body is not valid JSON")


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"'])
async def test_body_is_no_object(client: httpx.AsyncClient, body: bytes) -> None:
    """A JSON body that is no object is a 400."""
    reply = await post(client, body)
    assert reply.status_code == 400
    assert reply.json() == {
        "error": {
            "object": "error",
            "type": "invalid_request_error",
            "code": "invalid_request_error",
            "message": "Input should be a valid dictionary",
            "param": None,
        }
    }


async def test_violations(client: httpx.AsyncClient) -> None:
    """All that is wrong with a body is in the message, the first place in param."""
    body = b'{"inners": [{"text": 1}], "anything": ["a", 2], "foo": true}'
    error = (await post(client, body)).json()["error"]
    assert error["param"] == "inners[0].text"
    assert error["message"] == (
        "3 request validation errors: "
        "Input should be a valid string, field: 'inners[0].text'; "
        "Input should be a valid string, field: 'anything.list[str][1]'; "
        "Extra inputs are not permitted, field: 'foo', value: True"
    )


async def test_unknown_fields_may_be_ignored(serve: Serve) -> None:
    """With unknown_fields = ignore, members that no field has are dropped at all levels."""
    async with serve(unknown_fields="ignore") as client:
        reply = await post(client, b'{"foo": 1, "inner": {"text": "t", "bar": {}}}')
        assert reply.json()["inner"] == {"text": "t"}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
async def test_content_type(client: httpx.AsyncClient, content_type: str, status: int) -> None:
    """A body of another type than JSON is a 415."""
    reply = await client.post("/v1/echo", content=b"{}", headers={"content-type": content_type})
    assert reply.status_code == status


async def test_a_costly_body_holds_up_nobody(client: httpx.AsyncClient) -> None:
    """While a body of very many values is read, others are answered."""
    body = b'{"inners": [%b, 1]}' % b",".join([b"{}"] * 90_000)
    costly = asyncio.create_task(post(client, body))
    answered = 0
    while not costly.done():
        assert (await post(client, b"{}")).status_code == 200
        answered += 1
    assert (await costly).status_code == 400
    assert answered > 1


async def test_body_over_the_limit_by_length(serve: Serve) -> None:
    """A declared length over the limit is a 413 before the body is sent."""
    async with serve(max_body_bytes=100) as client:
        host, port = client.base_url.host, client.base_url.port
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 101\r\n\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 413 ")
        writer.transport.abort()
        assert (await post(client, b'{"a_string": "%s"}' % (b"x" * 80))).status_code == 200


async def test_body_over_the_limit_without_length(serve: Serve) -> None:
    """A chunked body is a 413 as soon as it is over the limit, and read no further."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1000:
            sent += 1
            yield b" " * 1000
            await asyncio.sleep(0.001)

    async with serve(max_body_bytes=5000) as client:
        host, port = client.base_url.host, client.base_url.port
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        answered = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        async for chunk in endless():
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
            if answered.done():
                break
        assert (await answered).startswith(b"HTTP/1.1 413 ")
        assert sent < 1000
        writer.transport.abort()
        error = (await client.post("/v1/echo", content=endless(), headers=JSON)).json()["error"]
        assert error["type"] == "invalid_request_error"


async def test_request_id(client: httpx.AsyncClient, library: Library) -> None:
    """A request id is passed on and back, on errors too; a bad or missing one is replaced."""
    given = {"x-request-id": "abc-1"}
    reply = await client.post("/v1/tell", json={}, headers=given)
    assert (reply.headers["x-request-id"], library.metadata["x-request-id"]) == ("abc-1", "abc-1")
    assert (await client.get("/nowhere", headers=given)).headers["x-request-id"] == "abc-1"
    for bad in (
        {},
        {"x-request-id": "x" * 129},
        {"x-request-id": "abc 1"},
        {"x-request-id": b"\xe9"},
    ):
        reply = await client.post("/v1/tell", json={}, headers=bad)
        made = reply.headers["x-request-id"]
        assert uuid.UUID(made).version == 4
        assert library.metadata["x-request-id"] == made


async def test_headers_in_and_out(client: httpx.AsyncClient, library: Library) -> None:
    """Listed headers become metadata and listed metadata becomes headers, nothing else."""
    library.initial = (
        ("x-ratelimit-limit-requests", "5"),
        ("fireworks-prompt-tokens", "7"),
        ("secret", "s"),
    )
    passed = {
        "authorization": "Bearer k",
        "traceparent": "00-1-2-3",
        "tracestate": "a=b",
        "x-session-affinity": "s",
    }
    for body in ({}, {"stream": True, "count": 1}):
        reply = await client.post("/v1/tell", json=body, headers={**passed, "cookie": "c"})
        assert library.metadata.items() >= passed.items()
        assert "cookie" not in library.metadata
        assert reply.headers["x-ratelimit-limit-requests"] == "5"
        assert reply.headers["fireworks-prompt-tokens"] == "7"
        assert "secret" not in reply.headers


async def test_session_becomes_an_affinity_key(client: httpx.AsyncClient, library: Library) -> None:
    """A caller's session is hashed into the key by which a load balancer keeps it together."""
    keys = []
    for session in ("s", "s", "t"):
        await client.post("/v1/tell", json={}, headers={"x-multi-turn-session-id": session})
        keys.append(library.metadata["x-session-affinity"])
    assert keys[0] == keys[1] != keys[2]


async def test_header_that_grpc_cannot_carry(client: httpx.AsyncClient, library: Library) -> None:
    """A header that is not printable ASCII is left out of the metadata."""
    reply = await client.post("/v1/tell", json={}, headers={"authorization": b"Bearer \xe9"})
    assert reply.status_code == 200
    assert "authorization" not in library.metadata


async def test_health(library: Library) -> None:
    """/health is 200 when the service serves, and 503 when it does not."""
    async with (
        serving(library) as port,
        gateway(f"127.0.0.1:{port}") as client,
    ):
        await until_learned(client)
        reply = await client.get("/health")
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})
        assert (await client.post("/health")).status_code == 405
    not_serving = HealthCheckResponse.NOT_SERVING
    async with (
        serving(library, status=not_serving) as port,
        gateway(f"127.0.0.1:{port}") as client,
    ):
        await until_learned(client)
        reply = await client.get("/health")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert reply.json()["error"]["code"] == "UNAVAILABLE"


async def test_unexpected_error_is_bland(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the gateway is a 500 that tells nothing, and a log entry with the request id."""

    def fault(*_: Any) -> None:
        raise KeyError("hidden")

    monkeypatch.setattr("rapport.gateway.app.Gateway._call", fault)
    reply = await client.post("/v1/echo", json={}, headers={"x-request-id": "r-1"})
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "internal_server_error"
    assert "hidden" not in reply.text
    assert "request r-1 failed" in caplog.text


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gateway.access"]


async def test_access_log(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """Each request is a line with method, path, status, time and id, without the body."""
    with caplog.at_level(logging.INFO, "gateway.access"):
        body = {"message": "private"}
        await client.post("/v1/tell?q=private", json=body, headers={"x-request-id": "r-2"})
        async with asyncio.timeout(10):
            # The line is written once the answer has been sent.
            while not (lines := access_lines(caplog)):  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
    [line] = lines
    assert re.fullmatch(r"POST /v1/tell 200 \d+\.\dms r-2", line)


async def test_connection_is_kept(client: httpx.AsyncClient) -> None:
    """Errors and answers leave the connection open for the next request."""
    host, port = client.base_url.host, client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    for path, status in (("/nowhere", b"404"), ("/v1/books/7", b"200")):
        writer.write(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        assert json.loads(await reader.readexactly(length))
    writer.transport.abort()


async def test_message_over_the_service_limit(serve: Serve) -> None:
    """A request that gRPC finds too large is a 413, not a 429."""
    async with serve(max_receive=1000) as client:
        reply = await client.post("/v1/echo", json={"a_string": "x" * 2000})
        assert (reply.status_code, reply.json()["error"]["type"]) == (413, "invalid_request_error")


async def test_message_over_the_gateway_limit(serve: Serve) -> None:
    """A response that gRPC finds too large is the server's fault, and is so at the next try."""
    async with serve(max_response_bytes=100_000) as client:
        for stream in (False, True):
            asked = {"size": 200_000, "count": 1, "stream": stream}
            reply = await client.post("/v1/tell", json=asked)
            assert (reply.status_code, reply.headers["x-should-retry"]) == (500, "false")
            assert (
                reply.json()["error"]["message"] == "The answer is larger than the server can send"
            )
        assert (await client.post("/v1/tell", json={"size": 20_000})).status_code == 200


@pytest.mark.parametrize(("header", "status"), [("200m", 504), ("5S", 200), ("5", 400), ("x", 400)])
async def test_grpc_timeout(client: httpx.AsyncClient, header: str, status: int) -> None:
    """The grpc-timeout header is the call's deadline; a caller's own is not worth a retry."""
    body = {"hang_after": 1} if status == 504 else {}
    reply = await client.post("/v1/tell", json=body, headers={"grpc-timeout": header})
    assert reply.status_code == status
    if status == 504:
        assert reply.headers["x-should-retry"] == "false"
        assert reply.json()["error"]["code"] == grpc.StatusCode.DEADLINE_EXCEEDED.name


async def test_configured_timeout(serve: Serve) -> None:
    """request_timeout limits every call, and is no fault of the caller."""
    async with serve(request_timeout=0.2) as client:
        for headers in ({}, {"grpc-timeout": "9S"}):
            reply = await client.post("/v1/tell", json={"hang_after": 1}, headers=headers)
            assert reply.status_code == 504
            assert "x-should-retry" not in reply.headers


@pytest.mark.parametrize("number", ["1", "5"])
async def test_a_refused_body_is_not_kept(client: httpx.AsyncClient, number: str) -> None:
    """Neither by the gateway's errors nor by those of the service, until garbage is collected."""
    body = b'{"a_string": "%b", "fail_with": %b, "nothing": 1}' % (
        b"x" * (1 << 20),
        number.encode(),
    )
    await post(client, body)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(8):
            assert (await post(client, body)).status_code >= 400
        assert tracemalloc.get_traced_memory()[0] < 2 << 20
    finally:
        tracemalloc.stop()
        gc.enable()
