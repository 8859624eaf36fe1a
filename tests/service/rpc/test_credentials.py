"""TLS on the gRPC port, with real clients."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import socket
import ssl
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from rapport.common.metrics.certificates import Certificates
from rapport.common.settings import load
from rapport.common.tls import TlsFiles
from rapport.service.config import ServiceSettings
from rapport.service.lifecycle import Lifecycle
from rapport.service.metrics.service import ServiceMetrics
from rapport.service.server import Server
from tests.certificates import Authority
from tests.service.requests import health

GRPCURL = Path(sys.executable).with_name("grpcurl")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """A CA that nobody here trusts."""
    return Authority(tmp_path, "stranger")


@pytest.fixture
def files(ca: Authority) -> TlsFiles:
    return ca.issue("service")


@pytest.fixture
def client_ca() -> list[str]:
    return []


@pytest.fixture
def settings(files: TlsFiles, client_ca: list[str]) -> ServiceSettings:
    pair = ["--grpc-tls-cert", str(files.chain), "--grpc-tls-key", str(files.key)]
    return load(ServiceSettings, ["--grpc-port", "0", *pair, *client_ca])


def secure(address: str, files: TlsFiles) -> grpc.aio.Channel:
    pem = files.read()
    credentials = grpc.ssl_channel_credentials(pem.ca, pem.key or None, pem.chain or None)
    return grpc.aio.secure_channel(address, credentials)


async def asks(address: str, files: TlsFiles) -> str:
    """What a new connection gets: the health, or why it fails."""
    async with secure(address, files) as channel:
        try:
            return HealthCheckResponse.ServingStatus.Name(await health(channel))
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"


async def grpcurl(address: str, *flags: str) -> tuple[int | None, str, str]:
    command = [
        str(GRPCURL),
        "-connect-timeout",
        "5",
        *flags,
        address,
        "grpc.health.v1.Health/Check",
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


def expiry(metrics: ServiceMetrics) -> float | None:
    name = "rapport_certificate_expiry_timestamp_seconds"
    return metrics.registry.get_sample_value(name, {"setting": "grpc_tls_cert"})


async def shown(address: str) -> str:
    """The certificate that a new connection is shown."""
    host, port = address.split(":")
    return await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))


async def test_grpcurl(address: str, ca: Authority, stranger: Authority) -> None:
    """grpcurl trusts the service by its CA and by no other, and cannot do without TLS."""
    status, out, _ = await grpcurl(address, "-cacert", str(ca.path))
    assert (status, json.loads(out)) == (0, {"status": "NOT_SERVING"})
    status, _, error = await grpcurl(address, "-cacert", str(stranger.path))
    assert status == 1
    assert "certificate" in error
    status, _, error = await grpcurl(address, "-plaintext")
    assert (status, error.count("Failed to dial")) == (1, 1)


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01"]
)
async def test_no_handshake(address: str, data: bytes) -> None:
    """Plain text and halves of a handshake end, and do no harm to others."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    writer.write_eof()
    assert b"HTTP/1.1 200" not in await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert await shown(address)


class TestHurried:
    @pytest.fixture
    def settings(
        self, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
    ) -> ServiceSettings:
        monkeypatch.setattr("rapport.service.server.HANDSHAKE_TIMEOUT_MS", 200)
        return settings

    async def test_handshake_that_never_comes(self, address: str) -> None:
        """Who connects and says nothing is let go."""
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


class TestClientCertificates:
    @pytest.fixture
    def client_ca(self, tmp_path: Path) -> list[str]:
        self.clients = Authority(tmp_path, "clients")
        return ["--grpc-client-ca", str(self.clients.path)]

    async def test_required(self, address: str, ca: Authority, stranger: Authority) -> None:
        """A certificate of the CA is let in; none, a stranger's or an expired one is not."""
        good, expired = self.clients.issue("good"), self.clients.issue("old", expired=True)
        for own, is_let_in in (
            (good, True),
            (TlsFiles(), False),
            (stranger.issue("bad"), False),
            (expired, False),
        ):
            answer = await asks(address, TlsFiles(own.chain, own.key, ca.path))
            assert (answer == "NOT_SERVING") == is_let_in, answer

    async def test_grpcurl(self, address: str, ca: Authority) -> None:
        """grpcurl shows its certificate with -cert and -key."""
        good = self.clients.issue("good")
        trusted = ["-cacert", str(ca.path)]
        status, _, _ = await grpcurl(
            address, *trusted, "-cert", str(good.chain), "-key", str(good.key)
        )
        assert status == 0
        status, _, error = await grpcurl(address, *trusted)
        assert status == 1, error

    async def test_another_ca(self, address: str, ca: Authority, stranger: Authority) -> None:
        """When the file of CAs changes, the certificates of the old one are let in no more."""
        old, new = self.clients.issue("old"), stranger.issue("new")
        assert await asks(address, TlsFiles(old.chain, old.key, ca.path)) == "NOT_SERVING"
        self.clients.path.write_bytes(stranger.path.read_bytes())
        assert await asks(address, TlsFiles(old.chain, old.key, ca.path)) != "NOT_SERVING"
        assert await asks(address, TlsFiles(new.chain, new.key, ca.path)) == "NOT_SERVING"


async def test_expired_service(ca: Authority, lifecycle: Lifecycle, files: TlsFiles) -> None:
    """Clients refuse a service whose certificate has expired."""
    ca.issue("service", expired=True)
    pair = ["--grpc-tls-cert", str(files.chain), "--grpc-tls-key", str(files.key)]
    settings = load(ServiceSettings, ["--grpc-port", "0", *pair])
    server = Server(settings, lifecycle)
    port = await server.listen(Certificates("rapport"))
    assert "certificate has expired" in await asks(f"127.0.0.1:{port}", TlsFiles(ca=ca.path))
    await server.stop(None)


async def test_scrapes_and_connections_renew(
    settings: ServiceSettings, lifecycle: Lifecycle, ca: Authority
) -> None:
    """Whoever looks first, both see the new certificate: its end, and itself."""
    metrics = ServiceMetrics(lifecycle)
    server = Server(settings, lifecycle)
    address = f"127.0.0.1:{await server.listen(metrics.certificates)}"
    for day, scrape_first in enumerate((True, False, True), start=1):
        end = dt.datetime(2048, 1, day, tzinfo=dt.UTC)
        files = ca.issue("service", end=end)
        if scrape_first:
            assert expiry(metrics) == end.timestamp()
        assert files.chain
        assert files.chain.read_text().startswith(await shown(address))
        assert expiry(metrics) == end.timestamp()
    await server.stop(None)


async def test_swapped_under_load(address: str, ca: Authority) -> None:
    """No call fails while the certificate changes, and new connections see the new one."""
    trusted, stop = TlsFiles(ca=ca.path), asyncio.Event()

    async def call_on(channel: grpc.aio.Channel) -> int:
        done = 0
        while not stop.is_set():
            await health(channel)
            done += 1
        return done

    async def connect_anew() -> int:
        done = 0
        while not stop.is_set():
            assert await asks(address, trusted) == "NOT_SERVING"
            done += 1
        return done

    async with secure(address, trusted) as first, secure(address, trusted) as second:
        callers = asyncio.gather(call_on(first), call_on(second), connect_anew(), connect_anew())
        seen = [await shown(address)]
        for _ in range(5):
            ca.issue("service")
            await asyncio.sleep(0.1)
            seen.append(await shown(address))
        stop.set()
        assert all(done > 0 for done in await callers)
    assert len(set(seen)) == 6


async def test_socket_beside_it(
    settings: ServiceSettings, lifecycle: Lifecycle, tmp_path: Path
) -> None:
    """A Unix socket serves who may open it without TLS, also in the place of a dead one."""
    path = tmp_path / "grpc"
    beside = settings.model_copy(update={"grpc_socket": path})
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = Server(beside, lifecycle)
    await server.listen(Certificates("rapport"))
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        assert await health(channel) == HealthCheckResponse.NOT_SERVING
    await server.stop(None)
