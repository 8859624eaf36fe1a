"""REST over TLS, with real clients."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from rapport.common.tls import TlsFiles
from rapport.gateway.metrics import GatewayMetrics
from tests.certificates import Authority
from tests.gateway.conftest import Serve
from tests.gateway.library import Library

Https = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """The CA of those who may call."""
    return Authority(tmp_path, "clients")


@pytest.fixture
def files(ca: Authority) -> TlsFiles:
    return ca.issue("gateway")


@pytest.fixture
def https(serve: Serve, ca: Authority, files: TlsFiles) -> Https:
    """A client that trusts the gateway."""

    def make(own: TlsFiles | None = None, **settings: Any) -> Any:
        pair = {"http_tls_cert": files.chain, "http_tls_key": files.key}
        return serve(verify=trust(ca, own), **pair, **settings)

    return make


def trust(ca: Authority, own: TlsFiles | None = None) -> ssl.SSLContext:
    """A client's context, with a certificate of its own or without."""
    context = ssl.create_default_context(cafile=ca.path)
    if own is not None:
        assert own.chain
        context.load_cert_chain(own.chain, own.key)
    return context


def expiry(metrics: GatewayMetrics) -> float | None:
    name = "rapport_gateway_certificate_expiry_timestamp_seconds"
    return metrics.registry.get_sample_value(name, {"setting": "http_tls_cert"})


async def get(client: httpx.AsyncClient, context: ssl.SSLContext) -> int:
    """The status that a new connection gets."""
    async with httpx.AsyncClient(base_url=client.base_url, verify=context, timeout=10) as another:
        return (await another.get("/v1/books/7")).status_code


async def shown(client: httpx.AsyncClient) -> str:
    """The certificate that a new connection is shown."""
    address = (client.base_url.host, client.base_url.port or 0)
    return await asyncio.to_thread(ssl.get_server_certificate, address)


async def test_trusted_by_its_ca(https: Https, clients: Authority) -> None:
    """A client trusts the gateway by its CA, and by no other."""
    async with https() as client:
        assert (await client.get("/v1/books/7")).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await get(client, trust(clients))


async def test_openai_client(https: Https, ca: Authority) -> None:
    """The official client works with a CA of its own, and says so without it."""
    async with https() as client:
        url = f"{client.base_url}/v1"
        async with (
            httpx.AsyncClient(verify=trust(ca)) as trusting,
            openai.AsyncOpenAI(base_url=url, api_key="k", http_client=trusting) as asking,
            openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as doubting,
        ):
            assert (await asking.get("/books/7", cast_to=httpx.Response)).status_code == 200
            with pytest.raises(openai.APIConnectionError):
                await doubting.get("/books/7", cast_to=httpx.Response)


async def test_expired(https: Https, ca: Authority) -> None:
    """A client refuses a certificate that has expired."""
    async with https() as client:
        ca.issue("gateway", expired=True)
        with pytest.raises(httpx.ConnectError, match="certificate has expired"):
            await get(client, trust(ca))


async def test_client_certificates(https: Https, ca: Authority, clients: Authority) -> None:
    """A certificate of the CA is let in; none, another's or an expired one is not."""
    good = clients.issue("good")
    async with https(good, http_client_ca=clients.path) as client:
        assert (await client.get("/v1/books/7")).status_code == 200
        for own in (None, ca.issue("stranger"), clients.issue("old", expired=True)):
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await get(client, trust(ca, own))


async def test_another_client_ca(https: Https, ca: Authority, clients: Authority) -> None:
    """When the file of CAs changes, the certificates of the old one are let in no more."""
    old, new = clients.issue("old"), ca.issue("new")
    async with https(old, http_client_ca=clients.path) as client:
        context = trust(ca, old)
        assert await get(client, context) == 200
        clients.path.write_bytes(ca.path.read_bytes())
        assert await get(client, trust(ca, new)) == 200
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await get(client, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions(https: Https, ca: Authority, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3 are spoken."""
    context = trust(ca)
    context.minimum_version = context.maximum_version = version
    async with https() as client:
        assert await get(client, context) == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_old_version(https: Https, ca: Authority) -> None:
    """TLS 1.1 is not."""
    context = trust(ca)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with https() as client:
        with pytest.raises(httpx.ConnectError):
            await get(client, context)


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00"])
async def test_no_handshake(https: Https, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Plain text and halves of a handshake end without an answer or a line in the log."""
    caplog.set_level(logging.INFO)
    async with https() as client:
        caplog.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(data)
        writer.write_eof()
        assert b"200" not in await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert caplog.text == ""
        assert (await client.get("/v1/books/7")).status_code == 200


async def test_scrapes_and_connections_renew(
    https: Https, ca: Authority, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks first, both see the new certificate: its end, and itself."""
    metrics = GatewayMetrics()
    monkeypatch.setattr("rapport.gateway.app.GatewayMetrics", lambda: metrics)
    async with https() as client:
        for day, scrape_first in enumerate((True, False, True), start=1):
            end = dt.datetime(2048, 1, day, tzinfo=dt.UTC)
            ca.issue("gateway", end=end)
            if scrape_first:
                assert expiry(metrics) == end.timestamp()
            assert files.chain
            assert files.chain.read_text().startswith(await shown(client))
            assert expiry(metrics) == end.timestamp()


async def test_swapped_under_load(https: Https, ca: Authority) -> None:
    """No call fails while the certificate changes, and new connections see the new one."""
    stop = asyncio.Event()

    async def call_on(client: httpx.AsyncClient) -> int:
        done = 0
        while not stop.is_set():
            assert (await client.get("/v1/books/7")).status_code == 200
            done += 1
        return done

    async def connect_anew(client: httpx.AsyncClient) -> int:
        done = 0
        while not stop.is_set():
            assert await get(client, trust(ca)) == 200
            done += 1
        return done

    async with https() as client:
        running = [call_on(client), call_on(client), connect_anew(client), connect_anew(client)]
        callers = asyncio.gather(*running)
        seen = [await shown(client)]
        for _ in range(5):
            ca.issue("gateway")
            await asyncio.sleep(0.1)
            seen.append(await shown(client))
        stop.set()
        assert all(done > 0 for done in await callers)
    assert len(set(seen)) == 6


async def test_slow_head(https: Https, ca: Authority) -> None:
    """A request that does not come in time is refused over TLS as well."""
    async with https(read_timeout=0.2) as client:
        port = client.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust(ca))
        writer.write(b"GET /v1")
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()


async def test_streams_over_tls(https: Https) -> None:
    """Server-sent events come one by one over TLS, too."""
    body = {"stream": True, "count": 3}
    async with https() as client:
        assert (await client.post("/v1/tell", json=body)).text.endswith("data: [DONE]\n\n")


@asynccontextmanager
async def unread(
    client: httpx.AsyncClient, ca: Authority, body: dict[str, Any]
) -> AsyncIterator[ssl.SSLSocket]:
    """A connection on which a request was sent, and nothing is read of the answer."""
    content = json.dumps(body).encode()
    head = "POST /v1/tell HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    host, port = client.base_url.host, client.base_url.port or 0

    def ask() -> ssl.SSLSocket:
        plain = socket.create_connection((host, port), 10)
        connected = trust(ca).wrap_socket(plain, server_hostname=host)
        connected.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        return connected

    with await asyncio.to_thread(ask) as connected:
        yield connected


async def test_gone_with_a_request_in_line(https: Https, ca: Authority, library: Library) -> None:
    """A call ends with its client also while nothing is read, as another request waits."""
    async with https() as client, unread(client, ca, {"hang_after": 0}) as connected:
        await asyncio.wait_for(library.started.wait(), 5)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(connected.sendall, b"GET /v1/books/7 HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        connected.close()
        await asyncio.wait_for(library.ended.wait(), 2)


@pytest.mark.parametrize(
    "body",
    [{"stream": True, "count": 100_000, "size": 10_000}, {"size": 20_000_000}],
    ids=["stream", "whole"],
)
async def test_stuck_reader_is_cut(
    https: Https,
    ca: Authority,
    library: Library,
    caplog: pytest.LogCaptureFixture,
    body: dict[str, Any],
) -> None:
    """Who reads nothing is reset in time, and its call ends; others are answered meanwhile."""
    caplog.set_level(logging.INFO)
    async with https(reader_timeout=0.4) as client, unread(client, ca, body) as stuck:
        await asyncio.wait_for(library.started.wait(), 5)
        async with asyncio.timeout(10):
            while "is cut: it read nothing for 0.4 s" not in caplog.text:
                assert (await client.get("/v1/books/7")).status_code == 200
                await asyncio.sleep(0.05)
        await asyncio.wait_for(library.ended.wait(), 2)
        # Python's TLS makes an end like any other of a reset.
        with socket.socket(fileno=stuck.detach()) as plain, pytest.raises(ConnectionResetError):
            await asyncio.to_thread(read_all, plain)
        assert (await client.get("/v1/books/7")).status_code == 200
    assert caplog.text.count("is cut") == 1


def read_all(connected: socket.socket) -> None:
    while connected.recv(1 << 16):
        pass


async def test_slow_reader_is_never_cut(
    https: Https, ca: Authority, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads a little now and then gets everything, in many times the patience."""
    body = {"size": 4_000_000}
    async with https(reader_timeout=0.4) as client, unread(client, ca, body) as slow:
        received, began = 0, time.monotonic()
        while received < body["size"]:
            received += len(await asyncio.to_thread(slow.recv, 1 << 14))
            await asyncio.sleep(0.005)
        assert time.monotonic() - began > 3 * 0.4
    assert library.ended.is_set()
    assert "is cut" not in caplog.text
