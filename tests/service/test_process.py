"""The service as a real process with the real model."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from rapport.v1.chat_pb2 import FinishReason
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from service.errors import NotReady
from service.lifecycle import Lifecycle
from service.process import serve
from tests.service.fakes import ScriptedEngine, served
from tests.service.requests import MODEL, chat, health

STUBBORN = {"max_tokens": 8000, "ignore_eos": True}


class Service:
    """`python -m service`, with its log."""

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "--grpc-port", "0", "--metrics-port", "0", *flags],
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if "RAPPORT" not in name},
        )
        self.log = ""

    def wait_for(self, pattern: str) -> str:
        """What the log says in the place of the pattern's group."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if found := re.search(pattern, line):
                return found[1]
        raise AssertionError(f"{pattern} did not come in:\n{self.log}")

    def end(self, *, within: float) -> int:
        """The exit status."""
        _, rest = self.process.communicate(timeout=within)
        self.log += rest
        return self.process.returncode


Start = Callable[..., Service]


@pytest.fixture
def start(int4_folder: Path) -> Iterator[Start]:
    services: list[Service] = []

    def started(*flags: str) -> Service:
        services.append(Service("--model-folder", str(int4_folder), *flags))
        return services[-1]

    yield started
    for service in services:
        service.process.kill()
        service.process.communicate()


@pytest.fixture
def ready(start: Start) -> Callable[..., tuple[Service, str]]:
    def started(*flags: str) -> tuple[Service, str]:
        service = start(*flags)
        address = service.wait_for(r"gRPC on (127\.0\.0\.1:\d+)$")
        service.wait_for(r"serving (smollm2-135m-instruct) \(int4\) on cpu, ready in \d+\.\d s$")
        return service, address

    return started


Ready = Callable[..., tuple[Service, str]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_streams_finish(ready: Ready, number: int) -> None:
    """At a signal probes hear NOT_SERVING, new calls are refused, and streams finish."""
    service, address = ready()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ChatServiceStub(channel)
        stream = aiter(stub.StreamChatCompletion(chat(max_tokens=60, ignore_eos=True)))
        await anext(stream)
        service.process.send_signal(number)
        while await health(channel) == HealthCheckResponse.SERVING:
            pass
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.CreateChatCompletion(chat())
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert raised.value.details() == "The server is shutting down"
        pieces = [piece async for piece in stream]
    assert pieces[-1].choices[0].finish_reason == FinishReason.FINISH_REASON_LENGTH
    assert pieces[-1].usage.completion_tokens == 60
    assert service.end(within=3) == 0
    assert "Traceback" not in service.log


async def test_grace_is_limited(ready: Ready) -> None:
    """A stream that outlasts the grace is ended, and its caller may try elsewhere."""
    service, address = ready("--shutdown-grace", "0.3")
    async with grpc.aio.insecure_channel(address) as channel:
        stream = aiter(ChatServiceStub(channel).StreamChatCompletion(chat(**STUBBORN)))
        await anext(stream)
        service.process.terminate()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stream:
                pass
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert service.end(within=3) == 0
    assert "Traceback" not in service.log


async def test_second_signal(ready: Ready) -> None:
    """A signal that comes again, and not at once, ends the process without grace."""
    service, address = ready()
    async with grpc.aio.insecure_channel(address) as channel:
        stream = aiter(ChatServiceStub(channel).StreamChatCompletion(chat(**STUBBORN)))
        await anext(stream)
        service.process.terminate()
        service.process.terminate()  # the same wish, passed on by a parent
        await asyncio.sleep(1.2)
        assert service.process.poll() is None
        service.process.terminate()
        assert service.end(within=1) == 128 + signal.SIGTERM


async def test_watched_health_does_not_hold_it_up(ready: Ready) -> None:
    """A probe that watches health hears of the end and does not delay it for long."""
    service, address = ready()
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = HealthStub(channel)  # its types know no asyncio
        watch = stub.Watch(HealthCheckRequest())
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        service.process.terminate()
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        assert await asyncio.to_thread(service.end, within=3) == 0
    assert "Traceback" not in service.log


async def test_engine_death(lifecycle: Lifecycle) -> None:
    """When the engine dies, probes and callers hear of it."""
    engine = ScriptedEngine()
    await serve(served(engine), lifecycle)
    assert lifecycle.served.model == MODEL
    assert engine.on_death is not None
    engine.on_death()
    await asyncio.sleep(0)
    with pytest.raises(NotReady, match="The engine died"):
        _ = lifecycle.served


def test_idle_service_ends_at_once(ready: Ready) -> None:
    """Without work there is nothing to wait for."""
    service, _ = ready()
    began = time.monotonic()
    service.process.terminate()
    assert service.end(within=3) == 0
    assert time.monotonic() - began < 1


def test_signal_while_loading(start: Start) -> None:
    """A signal before the model is there ends the process as cleanly."""
    service = start()
    service.wait_for(r"(gRPC on)")
    service.process.send_signal(signal.SIGINT)
    assert service.end(within=10) == 0
    assert "Traceback" not in service.log


def test_port_in_use(ready: Ready) -> None:
    """A port in use is told in one line."""
    _, address = ready()
    second = Service("--model-folder", "x", "--grpc-port", address.rpartition(":")[2])
    assert second.end(within=10) == 1
    assert second.log.endswith(f"cannot listen on {address}: is it in use?\n")
    assert second.log.count("\n") == 1


def test_metrics(start: Start) -> None:
    """Metrics are served from the start, before the model is loaded."""
    service = start()
    url = service.wait_for(r"metrics on (http://127\.0\.0\.1:\d+/metrics)$")
    assert "rapport_up" in httpx.get(url, trust_env=False).text


def test_metrics_port_in_use() -> None:
    """A port of the metrics that is taken ends the start, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        service = Service("--model-folder", "x", "--metrics-port", port)
        assert service.end(within=10) == 1
    told = f"cannot serve metrics on 127.0.0.1:{port}: Address already in use"
    assert told in service.log.splitlines()[-1]
    assert "Traceback" not in service.log


def test_no_metrics(ready: Ready) -> None:
    """Metrics can be left out."""
    service, _ = ready("--no-metrics")
    assert "metrics on" not in service.log


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        ([], 2, "model_folder: the folder of the model to serve is required"),
        (["--grpc-host", "0.0.0.0"], 2, "grpc_host 0.0.0.0 is reachable from elsewhere"),  # noqa: S104
        (["--model-folder", "missing"], 1, "missing"),
    ],
)
def test_failed_start(flags: list[str], status: int, told: str) -> None:
    """A start that fails says why in one line."""
    service = Service(*flags)
    assert service.end(within=10) == status
    assert told in service.log.splitlines()[-1]
    assert "Traceback" not in service.log
