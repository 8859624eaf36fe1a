"""Each stage of `rapport serve` as docs/deploy.md has it, for probes and callers of both ports."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_status import rpc_status

from bench.server import Target, free_ports, rapport
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.conftest import MODEL
from tests.plain_http import NO_CERTIFICATES
from tests.service.requests import chat, health

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
PATH = "/v1/chat/completions"
LONG = {"max_tokens": 8000, "ignore_eos": True}
# Times in seconds, in each of which a busy machine answers some short requests.
DRAIN_DELAY, GRACE = 6, 6
# For code that runs in each Python that is started; the service's model takes for ever to load.
SLOW_LOAD = """
import sys
if "rapport.service" in sys.orig_argv:
    import time
    from rapport.service.engine.engine import Engine
    Engine.load = lambda *_: time.sleep(600)
"""


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **fields}


@dataclass(frozen=True, slots=True)
class Callers:
    """A client of each port."""

    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    @property
    def stub(self) -> Any:  # its types know no asyncio
        return ChatServiceStub(self.channel)

    async def probes(self) -> tuple[int, int, int, int]:
        """Readiness and liveness over REST, then over gRPC."""
        ready, live = [
            (await self.http.get(path)).status_code for path in ("/health", "/health/live")
        ]
        return ready, live, await health(self.channel), await health(self.channel, "liveness")

    async def check_refusals(self, text: str) -> None:
        """New requests are refused on both ports, so that they are tried again."""
        reply = await self.http.post(PATH, json=body())
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert text in reply.json()["error"]["message"].lower()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.stub.CreateChatCompletion(chat())
        check_unavailable(raised.value, text)

    async def until_loading(self) -> None:
        """Waits until the gateway has learned from the service what there is."""
        text = ""
        while "The model is loading" not in text:
            with suppress(httpx.TransportError):
                text = (await self.http.get("/v1/models")).text
            await asyncio.sleep(0.05)

    async def until_running(self, count: int) -> None:
        used = 0
        while used < count:
            await asyncio.sleep(0.05)
            used = (await self.http.get("/v1/status")).json()["occupancy"]["slots_used"]

    async def until_refused(self) -> None:
        while (await self.http.get("/v1/models")).status_code == 200:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.05)

    def checks_of_ends(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Long requests, each of which checks that the end of the grace is its own."""
        yield self._rest()
        yield self._rest_stream()
        yield self._rpc()
        yield self._rpc_stream()

    async def _rest(self) -> None:
        reply = await self.http.post(PATH, json=body(**LONG))
        assert reply.status_code == 503
        assert "the server is shutting down" in reply.json()["error"]["message"]

    async def _rest_stream(self) -> None:
        text = ""
        async with self.http.stream("POST", PATH, json=body(stream=True, **LONG)) as reply:
            with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - it breaks off in the loop
                async for piece in reply.aiter_text():
                    text += piece
        last = text.split("\n\n")[-2]
        assert '"code":"UNAVAILABLE"' in last
        assert "the server is shutting down" in last

    async def _rpc(self) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.stub.CreateChatCompletion(chat(**LONG))
        check_unavailable(raised.value, "the server is shutting down")

    async def _rpc_stream(self) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in self.stub.StreamChatCompletion(chat(**LONG)):
                pass
        check_unavailable(raised.value, "the server is shutting down")


def check_unavailable(error: grpc.aio.AioRpcError, text: str) -> None:
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert text in str(error.details()).lower()
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type] - the same
    assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)


@asynccontextmanager
async def calling(target: Target) -> AsyncIterator[Callers]:
    async with (
        httpx.AsyncClient(base_url=str(target.rest), timeout=60, verify=NO_CERTIFICATES) as http,
        grpc.aio.insecure_channel(str(target.grpc)) as channel,
    ):
        yield Callers(http, channel)


@pytest.fixture
def loading(tiny_folder: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Target]]:
    """A server whose model is being loaded."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_LOAD)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    grpc_port, http_port = free_ports(2)
    flags = [f"--model-folder={tiny_folder}", f"--grpc-port={grpc_port}", "--no-metrics"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rapport.cli.serve", *flags, f"--http-port={http_port}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    yield process, Target(f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}")
    process.kill()
    process.wait()


async def test_loading(loading: tuple[subprocess.Popen[bytes], Target]) -> None:
    """Both ports are served and alive, and not ready; a signal ends all at once."""
    process, target = loading
    async with calling(target) as callers:
        await callers.until_loading()
        assert await callers.probes() == (503, 200, NOT_SERVING, SERVING)
        await callers.check_refusals("the model is loading")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0


async def test_stopping(tiny_folder: Path) -> None:
    """In the delay requests are served, then refused; after the grace what runs gets its end."""
    pace = {"inject_faults": True, "faults": "decode:delay=0.01"}
    times = {"drain_delay": DRAIN_DELAY, "shutdown_grace": GRACE}
    with rapport(model_folder=tiny_folder, **times, **pace) as (server, target):
        async with calling(target) as callers, asyncio.TaskGroup() as group:
            assert await callers.probes() == (200, 200, SERVING, SERVING)
            running = [group.create_task(check) for check in callers.checks_of_ends()]
            await callers.until_running(len(running))
            os.kill(server.pid, signal.SIGTERM)
            while await callers.probes() != (503, 200, NOT_SERVING, SERVING):
                pass
            assert (await callers.http.post(PATH, json=body(max_tokens=2))).status_code == 200
            assert (await callers.stub.CreateChatCompletion(chat(max_tokens=2))).choices
            await callers.until_refused()
            assert await callers.probes() == (503, 200, NOT_SERVING, SERVING)
            await callers.check_refusals("the server is shutting down")
            assert not any(task.done() for task in running)
        assert await asyncio.to_thread(server._process.wait, 30) == 0
