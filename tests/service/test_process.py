"""The service as a real process, with a tiny model at the pace of the real one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from rapport.models.folder import FILES
from rapport.service.__main__ import main
from rapport.service.config import ServiceSettings
from rapport.service.errors import NotReadyError
from rapport.service.lifecycle import Lifecycle
from rapport.service.process import EXIT_ENGINE_DIED, drain, serve_until_stopped
from rapport.v1.chat_pb2 import FinishReason
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.plain_http import NO_CERTIFICATES
from tests.service.fakes import ScriptedEngine, ends, says, served
from tests.service.requests import MODEL, chat, health

STUBBORN = {"max_tokens": 8000, "ignore_eos": True}
PACE = ("--inject-faults", "--faults", "decode:delay=0.02")

MAIN = """
import sys
from rapport.service.__main__ import main
sys.exit(main())
"""
# The engine's thread fails, or hangs, once it has made the third token of an answer.
FAULT = """
import time
from rapport.service.engine.runtime.runner import OnnxRunner
decode = OnnxRunner.decode
left = 3
def failing(*arguments):
    global left
    left -= 1
    if left == 0:
        {fault}
    return decode(*arguments)
OnnxRunner.decode = failing
"""
PANIC = FAULT.format(fault="raise SystemExit('as a panic in Rust does')")
HANG = FAULT.format(fault="time.sleep(600)")
# The clock is set by a day, forward and back, at each look at it.
JUMPS = """
import itertools, time
from tests.plain_http import NO_CERTIFICATES
now, days = time.time, itertools.cycle((86400, -86400))
time.time = lambda: now() + next(days)
"""
SLOW_LOAD = """
import time
from rapport.service.engine.engine import Engine
Engine.load = lambda *_: time.sleep(600)
"""


class Service:
    """`python -m rapport.service`, with its log."""

    def __init__(self, *flags: str, fault: str = "", stdin: bool = False) -> None:
        """`fault` is code that runs before the service does; it may read `stdin`."""
        program = ["-c", f"{fault}{MAIN}"] if fault else ["-m", "rapport.service"]
        self.process = subprocess.Popen(
            [sys.executable, *program, "--grpc-port", "0", "--metrics-port", "0", *flags],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
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
def start(tiny_folder: Path) -> Iterator[Start]:
    services: list[Service] = []

    def started(*flags: str, **options: Any) -> Service:
        services.append(Service("--model-folder", str(tiny_folder), *PACE, *flags, **options))
        return services[-1]

    yield started
    for service in services:
        service.process.kill()
        service.process.communicate()


@pytest.fixture
def ready(start: Start) -> Callable[..., tuple[Service, str]]:
    def started(*flags: str, fault: str = "") -> tuple[Service, str]:
        service = start(*flags, fault=fault)
        address = service.wait_for(r"gRPC on (127\.0\.0\.1:\d+)$")
        service.wait_for(rf"serving ({MODEL} \(int4\)) on cpu, ready in \d+\.\d s$")
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
        service.process.terminate()  # the same signal, passed on by a parent
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


async def test_engine_death(settings: ServiceSettings, lifecycle: Lifecycle) -> None:
    """When the engine dies, probes and callers hear of it."""
    engine = ScriptedEngine()
    stopping = asyncio.Event()
    living = asyncio.create_task(serve_until_stopped(served(engine), settings, lifecycle, stopping))
    await asyncio.sleep(0)
    assert lifecycle.served.model == MODEL
    assert engine.on_death is not None
    engine.on_death()
    assert await living == EXIT_ENGINE_DIED
    with pytest.raises(NotReadyError, match="The engine died"):
        _ = lifecycle.served


@pytest.mark.parametrize(
    ("fault", "flags", "said"),
    [
        (PANIC, (), "the engine thread died"),
        (HANG, ("--engine-stall-timeout", "1"), "the engine has been at one step for 1 s"),
    ],
)
async def test_engine_of_no_more_use(
    ready: Ready, fault: str, flags: tuple[str, ...], said: str
) -> None:
    """A dead or hung engine's callers are told to try again, then the process ends with 3."""
    service, address = ready(*flags, fault=fault)
    async with grpc.aio.insecure_channel(address) as channel:
        stub, watches = ChatServiceStub(channel), HealthStub(channel)
        watch = watches.Watch(HealthCheckRequest(service="liveness"))
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        stream = aiter(stub.StreamChatCompletion(chat(**STUBBORN)))
        await anext(stream)
        whole = stub.CreateChatCompletion(chat(**STUBBORN))
        for answer in (whole, last_of(stream)):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await answer
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert raised.value.details() == "the engine has died"
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        assert await asyncio.to_thread(service.end, within=5) == EXIT_ENGINE_DIED
    assert said in service.log
    assert "failing" in service.log  # the function that was at fault is among the stacks


async def test_engine_that_hangs_while_draining(ready: Ready) -> None:
    """A hung engine does not keep a drain waiting for the whole grace, or for ever."""
    flags = ("--engine-stall-timeout", "1", "--shutdown-grace", "60")
    service, address = ready(*flags, fault=HANG)
    async with grpc.aio.insecure_channel(address) as channel:
        stream = aiter(ChatServiceStub(channel).StreamChatCompletion(chat(**STUBBORN)))
        await anext(stream)
        service.process.terminate()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await last_of(stream)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(service.end, within=5) == EXIT_ENGINE_DIED


async def last_of(pieces: AsyncIterator[Any]) -> Any:
    return [piece async for piece in pieces][-1]


async def answers(stub: Any) -> AsyncIterator[Any]:
    while True:
        yield await stub.CreateChatCompletion(chat(max_tokens=1))


async def test_drain_delay(ready: Ready) -> None:
    """Between the signal and the first refusal, health checks fail and requests are served."""
    service, address = ready("--drain-delay", "1")
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ChatServiceStub(channel)
        service.process.terminate()
        while await health(channel) == HealthCheckResponse.SERVING:
            pass
        answer = await stub.CreateChatCompletion(chat(max_tokens=2))
        assert answer.usage.completion_tokens == 2
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await last_of(answers(stub))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert service.end(within=5) == 0


async def test_slow_readers_get_their_end(address: str, lifecycle: Lifecycle) -> None:
    """An answer that the engine is done with is waited for until its reader has it all."""
    engine = ScriptedEngine([says(0, "x" * (3 << 20)), ends(0)])
    lifecycle.start_serving(served(engine))
    options = [("grpc.http2.bdp_probe", 0)]  # with it, the client reads ahead
    async with grpc.aio.insecure_channel(address, options) as channel:
        stream = ChatServiceStub(channel).StreamChatCompletion(chat())
        await stream.initial_metadata()
        draining = asyncio.create_task(drain(lifecycle, engine, grace_s=20))
        await asyncio.sleep(0.3)
        assert not draining.done()
        pieces = [piece async for piece in stream]
        await asyncio.wait_for(draining, 5)
    assert pieces[-1].choices[0].finish_reason == FinishReason.FINISH_REASON_STOP


async def test_readers_that_stop_do_not_hold_it_up(address: str, lifecycle: Lifecycle) -> None:
    """A reader that reads nothing within the grace is left behind."""
    engine = ScriptedEngine([says(0, "x" * (3 << 20)), ends(0)])
    lifecycle.start_serving(served(engine))
    async with grpc.aio.insecure_channel(address, [("grpc.http2.bdp_probe", 0)]) as channel:
        stream = ChatServiceStub(channel).StreamChatCompletion(chat())
        await stream.initial_metadata()
        await asyncio.wait_for(drain(lifecycle, engine, grace_s=0.3), 5)


async def test_jumping_clock(ready: Ready) -> None:
    """A clock that is set while it serves changes no answer, no admission and no drain."""
    limits = ("--engine-stall-timeout", "5", "--max-ttft", "30")
    service, address = ready(*limits, fault=JUMPS)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ChatServiceStub(channel)
        stream = aiter(stub.StreamChatCompletion(chat(max_tokens=60, ignore_eos=True)))
        pieces = [await anext(stream)]
        answer = await stub.CreateChatCompletion(chat(max_tokens=3, ignore_eos=True))
        assert answer.usage.completion_tokens == 3
        service.process.terminate()
        pieces += [piece async for piece in stream]
    assert pieces[-1].usage.completion_tokens == 60
    assert service.end(within=5) == 0


async def test_stacks_on_demand(ready: Ready) -> None:
    """SIGUSR1 shows what all threads do, and nothing else changes.

    A port of the metrics that is taken is reported, and the service serves without them.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        service, address = ready("--metrics-port", port)
    assert f"no metrics are served, 127.0.0.1:{port} cannot be listened on" in service.log
    service.process.send_signal(signal.SIGUSR1)
    service.wait_for(r"(service/__main__\.py)")
    async with grpc.aio.insecure_channel(address) as channel:
        assert await health(channel) == HealthCheckResponse.SERVING


@pytest.mark.parametrize("name", FILES)
def test_damaged_folder(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    """Whichever file is cut short, one line says which folder cannot be used and why."""
    for file in FILES:
        (tmp_path / file).symlink_to(tiny_folder / file)
    (tmp_path / name).unlink()
    content = (tiny_folder / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    service = Service("--model-folder", str(tmp_path))
    assert service.end(within=30) == 1
    assert f"the model folder {tmp_path} cannot be used: " in service.log.splitlines()[-1]
    assert "Traceback" not in service.log


def test_idle_service_ends_at_once(ready: Ready) -> None:
    """Without work there is nothing to wait for. Metrics can be left out.

    A port in use is reported in one line by the second process that wants it.
    """
    service, address = ready("--no-metrics")
    assert "metrics on" not in service.log
    second = Service("--model-folder", "x", "--grpc-port", address.rpartition(":")[2])
    assert second.end(within=10) == 1
    assert second.log.endswith(f"cannot listen on {address}: is it in use?\n")
    assert second.log.count("\n") == 1
    began = time.monotonic()
    service.process.terminate()
    assert service.end(within=3) == 0
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_loading(start: Start, number: int) -> None:
    """A signal before the model is there ends the process as cleanly, and at once.

    Metrics are served from the start, before the model is loaded.
    """
    service = start(fault=SLOW_LOAD)
    service.wait_for(r"(gRPC on)")
    url = service.wait_for(r"metrics on (http://127\.0\.0\.1:\d+/metrics)$")
    assert "rapport_up" in httpx.get(url, trust_env=False, verify=NO_CERTIFICATES).text
    service.process.send_signal(number)
    assert service.end(within=5) == 0
    assert service.log.endswith("stopped while the model was loading\n")
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("flags", "status", "expected"),
    [
        ([], 2, "model_folder: the folder of the model to serve is required"),
        (["--model-folder", "missing"], 1, "missing"),
        (["--model-folder", "x", "--grpc-tls-cert", "a", "--grpc-tls-key", "b"], 1, "a: No such"),
    ],
)
def test_failed_start(flags: list[str], status: int, expected: str) -> None:
    """A start that fails says why in one line."""
    service = Service(*flags)
    assert service.end(within=60) == status
    assert expected in service.log.splitlines()[-1]
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--grpc-host", "0.0.0.0"], "grpc_host 0.0.0.0 is reachable from elsewhere"),  # noqa: S104
        (["--grpc-tls-cert", "a"], "grpc_tls_key is needed along with grpc_tls_cert"),
    ],
)
def test_wrong_settings(
    flags: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Settings that contradict each other end the start with one line."""
    monkeypatch.setattr("rapport.service.__main__.show_stacks", lambda: None)
    assert main(flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert expected in line


async def test_kv_budget_for_no_request(start: Start, ready: Ready) -> None:
    """A budget that the shortest chat does not fit is refused, and the one that is named serves."""
    service = start("--kv-budget", "1000")
    assert service.end(within=60) == 2
    line = service.log.splitlines()[-1]
    assert "kv_budget: 1000 bytes are too few for one request" in line
    [size] = re.findall(r"which are (\d+) bytes$", line)
    _, address = ready("--kv-budget", size)
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await ChatServiceStub(channel).CreateChatCompletion(chat("a", max_tokens=1))
    assert answer.usage.completion_tokens == 1
