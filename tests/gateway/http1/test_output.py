"""Clients that read nothing, or little."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from rapport.gateway.http1.output import Output
from rapport.gateway.metrics import GatewayMetrics
from tests.gateway.conftest import Serve
from tests.gateway.http1.raw import connected, request
from tests.gateway.library import Library

READER_TIMEOUT_S = 0.4
ENDLESS = {"stream": True, "count": 100_000, "size": 10_000}


@pytest.mark.parametrize("body", [ENDLESS, {"size": 20_000_000}], ids=["stream", "whole"])
async def test_stuck_reader_is_cut(
    serve: Serve, library: Library, caplog: pytest.LogCaptureFixture, body: dict[str, Any]
) -> None:
    """Who reads nothing is reset after a while, the call is cancelled, and the log says so."""
    caplog.set_level(logging.INFO)
    async with serve(reader_timeout=READER_TIMEOUT_S) as client, connected(client) as raw:
        await raw.send(request(body))
        await asyncio.wait_for(library.ended.wait(), 10)
        async with asyncio.timeout(5):
            while "is cut: it read nothing for 0.4 s" not in caplog.text:  # noqa: ASYNC110 - a log tells no one
                await asyncio.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            await raw.receive()
        assert (await client.post("/v1/tell", json={"size": 1})).status_code == 200


async def test_slow_reader_is_never_cut(
    serve: Serve, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads a little now and then gets everything, in many times the timeout."""
    body = {"size": 6_000_000}
    async with serve(reader_timeout=READER_TIMEOUT_S) as client, connected(client) as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await raw.send(request(body))
        received, began = 0, asyncio.get_running_loop().time()
        async with asyncio.timeout(20):
            while received < body["size"]:
                received += len(await asyncio.get_running_loop().sock_recv(raw.socket, 1 << 17))
                await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - began > 3 * READER_TIMEOUT_S
    assert library.ended.is_set()
    assert "is cut" not in caplog.text


class HandshakeTransport:
    """A transport of TLS whose handshake has left bytes: it pauses whoever sets limits."""

    def __init__(self, output: Output | None = None) -> None:
        self.output = output

    def set_write_buffer_limits(self, **_: int) -> None:
        assert self.output is not None
        self.output.pause()

    def get_write_buffer_size(self) -> int:
        return 100


async def test_bytes_of_a_handshake() -> None:
    """What TLS has still to send is waited for from the beginning."""
    transport = HandshakeTransport()
    output = Output(transport, 60, GatewayMetrics().stuck_readers)  # type: ignore[arg-type]
    transport.output = output
    output.begin()
    waiting = asyncio.create_task(output.drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    output.resume()
    await waiting
