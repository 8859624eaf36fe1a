"""The gateway as a client of a service behind TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from rapport.common.tls import CertificateError, TlsFiles
from rapport.gateway.app import Gateway
from rapport.gateway.config import GatewaySettings
from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.metrics import GatewayMetrics
from rapport.gateway.upstream.channel import Channels
from rapport.gateway.upstream.upstream import Upstream
from rapport.service.rpc.credentials import server_certificate, server_credentials
from tests.certificates import Authority
from tests.gateway.conftest import gateway, until_learned
from tests.gateway.library import Library, serving


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rapport.gateway.upstream.upstream.RENEW_S", 0.05)


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """The CA of those who may call."""
    return Authority(tmp_path, "clients")


def showing(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a service that has these files."""
    return server_credentials(server_certificate(files))


async def until_told(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(10):
        while text not in caplog.text:  # noqa: ASYNC110 - the log has no event
            await asyncio.sleep(0.02)


async def until_ok(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/v1/books/7")).status_code != 200:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.02)


async def test_trusted_by_its_ca(library: Library, ca: Authority) -> None:
    """A service with a certificate of the CA is served."""
    async with (
        serving(library, credentials=showing(ca.issue("service"))) as port,
        gateway(f"127.0.0.1:{port}", upstream_ca=ca.path) as client,
    ):
        await until_learned(client)
        assert (await client.get("/v1/books/7")).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_another_name(library: Library, ca: Authority) -> None:
    """A certificate for another name is good where that name is expected."""
    files = ca.issue("service", "chat.example.org")
    async with (
        serving(library, credentials=showing(files)) as port,
        gateway(
            f"127.0.0.1:{port}", upstream_ca=ca.path, upstream_server_name="chat.example.org"
        ) as client,
    ):
        await until_learned(client)


@pytest.mark.parametrize("wrong", ["ca", "name", "expired", "public"])
async def test_not_trusted(
    library: Library,
    ca: Authority,
    clients: Authority,
    wrong: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that cannot be trusted is not served, and the log says why, once."""
    host = "elsewhere" if wrong == "name" else "127.0.0.1"
    files = ca.issue("service", host, expired=wrong == "expired")
    trusted = {"upstream_ca": clients.path if wrong == "ca" else ca.path}
    async with (
        serving(library, credentials=showing(files)) as port,
        gateway(
            f"127.0.0.1:{port}", **({"upstream_tls": True} if wrong == "public" else trusted)
        ) as client,
    ):
        await until_told(caplog, "cannot be learned: failed to connect")
        await asyncio.sleep(0.5)
        assert (await client.get("/v1/books/7")).status_code == 503
    lines = [line for line in caplog.messages if "cannot be learned" in line]
    assert len(lines) == 1
    reason = "certificate has expired" if wrong == "expired" else ""
    assert reason in lines[0]


async def test_client_certificate(library: Library, ca: Authority, clients: Authority) -> None:
    """A service that asks for a certificate is shown the gateway's."""
    server, own = ca.issue("service"), clients.issue("gateway")
    credentials = showing(TlsFiles(server.chain, server.key, clients.path))
    settings = {"upstream_cert": own.chain, "upstream_key": own.key, "upstream_ca": ca.path}
    async with (
        serving(library, credentials=credentials) as port,
        gateway(f"127.0.0.1:{port}", **settings) as client,
    ):
        await until_learned(client)


async def test_without_client_certificate(
    library: Library, ca: Authority, clients: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Without one it is not served, and the log says so."""
    server = ca.issue("service")
    credentials = showing(TlsFiles(server.chain, server.key, clients.path))
    async with (
        serving(library, credentials=credentials) as port,
        gateway(f"127.0.0.1:{port}", upstream_ca=ca.path) as client,
    ):
        await until_told(caplog, "cannot be learned")
        assert (await client.get("/v1/books/7")).status_code == 503


async def test_renewed_client_certificate(
    library: Library, ca: Authority, clients: Authority
) -> None:
    """A new certificate is shown from then on; a stream that began before goes on."""
    server, own = ca.issue("service"), clients.issue("gateway")
    credentials = showing(TlsFiles(server.chain, server.key, clients.path))
    settings = {"upstream_cert": own.chain, "upstream_key": own.key, "upstream_ca": ca.path}
    async with (
        serving(library, credentials=credentials) as port,
        gateway(f"127.0.0.1:{port}", **settings) as client,
    ):
        await until_learned(client)
        body = {"stream": True, "count": 10, "pause_ms": 100}
        stream = asyncio.create_task(client.post("/v1/tell", json=body))
        await library.started.wait()
        # From here on only certificates of another CA are let in.
        clients.path.write_bytes(ca.path.read_bytes())
        assert own.chain
        assert ca.issue("gateway") == own
        async with asyncio.timeout(5):
            while not stream.done():
                assert (await client.get("/v1/books/7")).status_code == 200
                await asyncio.sleep(0.05)
        assert (await stream).text.endswith("data: [DONE]\n\n")


async def test_a_certificate_that_a_scrape_saw_first(ca: Authority) -> None:
    """Its expiry is reported, and a channel from before it still counts as an old one."""
    end = dt.datetime(2048, 1, 1, tzinfo=dt.UTC)
    own = ca.issue("gateway")
    settings = GatewaySettings(upstream_cert=own.chain, upstream_key=own.key)
    app, channels = Gateway(settings, FIREWORKS), Channels(settings)
    await channels.open().close()
    assert not channels.renew()
    ca.issue("gateway", end=end)
    name = "rapport_gateway_certificate_expiry_timestamp_seconds"
    labels = {"setting": "upstream_cert"}
    assert app.metrics.registry.get_sample_value(name, labels) == end.timestamp()
    assert channels.certificate
    channels.certificate.renew()
    assert channels.renew()
    await channels.open().close()
    assert not channels.renew()


async def test_ca_that_comes_later(library: Library, ca: Authority, clients: Authority) -> None:
    """A gateway that trusts the wrong CA recovers once the file holds the right one."""
    async with (
        serving(library, credentials=showing(ca.issue("service"))) as port,
        gateway(f"127.0.0.1:{port}", upstream_ca=clients.path) as client,
    ):
        assert (await client.get("/v1/books/7")).status_code == 503
        clients.path.write_bytes(ca.path.read_bytes())
        await until_ok(client)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """A file that is missing is an error at the start."""
    with pytest.raises(CertificateError, match="nowhere: No such file"):
        Upstream(
            GatewaySettings(upstream_ca=tmp_path / "nowhere"), GatewayMetrics().follow, FIREWORKS
        )


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"api_keys": "k"}, 1),
        ({"api_keys": "k", "upstream": "dns:///localhost:1"}, 1),
        ({"api_keys": "k", "grpc_socket": "/run/grpc"}, 0),
        ({"api_keys": "k", "upstream_tls": True}, 0),
        ({}, 0),
    ],
)
def test_keys_over_a_port(
    settings: dict[str, Any], lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program could take the port and be sent the keys, which the log says once."""
    Channels(GatewaySettings(**settings))
    assert caplog.text.count("gets callers' keys; set grpc_socket or upstream_ca") == lines
