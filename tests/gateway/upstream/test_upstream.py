"""The upstream: learned when it is there, again when it comes back changed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from rapport.gateway.config import GatewaySettings
from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.metrics import GatewayMetrics
from rapport.gateway.upstream.upstream import DescriptorSetError, Upstream
from tests.gateway.conftest import gateway, until_learned
from tests.gateway.library import Library, descriptor_set, serving


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def until(client: httpx.AsyncClient, path: str, status: int) -> None:
    async with asyncio.timeout(10):
        while (await client.get(path)).status_code != status:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.05)


def moved(old: bytes, new: bytes) -> bytes:
    """The descriptors with another path of the same length in an annotation."""
    assert len(old) == len(new)
    assert old in descriptor_set()
    return descriptor_set().replace(old, new)


async def test_down_then_up(library: Library) -> None:
    """While the service is down all is 503; within seconds of its start it is served."""
    port = free_port()
    async with gateway(f"127.0.0.1:{port}") as client:
        for path in ("/v1/books/7", "/v1/nowhere", "/health"):
            reply = await client.get(path)
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert reply.json()["error"]["code"] == "UNAVAILABLE"
        async with serving(library, port):
            await until(client, "/v1/books/7", 200)
            assert (await client.get("/health")).status_code == 200
        await until(client, "/v1/books/7", 503)
        assert (await client.get("/health")).status_code == 503
        async with serving(library, port):
            await until(client, "/v1/books/7", 200)


async def test_comes_back_changed(library: Library) -> None:
    """A service that comes back with other routes is served by those."""
    port = free_port()
    changed = moved(b"/v1/books/default", b"/v1/books/classic")
    async with gateway(f"127.0.0.1:{port}") as client:
        async with serving(library, port):
            await until_learned(client)
            assert (await client.get("/v1/books/default")).json()["title"] == "default"
        async with serving(library, port, descriptors=changed):
            await until(client, "/v1/books/classic", 200)
            assert (await client.get("/v1/books/default")).status_code == 400


async def test_descriptor_set(library: Library, tmp_path: Path) -> None:
    """With a descriptor set the routes are known at once, without asking the service."""
    path = tmp_path / "toy.binpb"
    path.write_bytes(descriptor_set())
    async with (
        serving(library) as port,
        gateway(f"127.0.0.1:{port}", descriptor_set=path) as client,
    ):
        assert (await client.get("/v1/nowhere")).status_code == 404
        assert (await client.get("/v1/books/7")).json()["number"] == 7


async def test_bad_descriptor_set(tmp_path: Path) -> None:
    """A descriptor set that is missing, broken or incomplete is said to be."""
    broken, partial = tmp_path / "broken", tmp_path / "partial"
    broken.write_bytes(b"\xff")
    files = FileDescriptorSet.FromString(descriptor_set()).file
    partial.write_bytes(FileDescriptorSet(file=[files[-1]]).SerializeToString())
    for path in (tmp_path / "missing", broken, partial):
        with pytest.raises(DescriptorSetError):
            Upstream(GatewaySettings(descriptor_set=path), GatewayMetrics().follow, FIREWORKS)


async def test_service_without_reflection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that cannot be learned is reported once, and tried again."""
    monkeypatch.setattr("rapport.gateway.upstream.upstream.RETRY_S", 0.01)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with gateway(f"127.0.0.1:{port}") as client:
        await asyncio.sleep(0.3)
        assert (await client.get("/v1/books/7")).status_code == 503
    await server.stop(None)
    assert caplog.text.count("cannot be learned: Method not found!") == 1
