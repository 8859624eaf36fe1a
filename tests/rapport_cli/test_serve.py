"""`rapport serve` as a real process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from bench.server import Server, Target, rapport
from rapport_cli import serve
from rapport_settings.base import load
from service.engine.providers import CUDA, ProviderError
from tests.conftest import MODEL

STREAM = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count."}],
    "max_tokens": 120,
    "ignore_eos": True,
    "stream": True,
}

Running = tuple[Server, Target]


@pytest.fixture
def started(int4_folder: Path) -> Iterator[Running]:
    del int4_folder
    with rapport() as running:
        yield running


def parts(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.pid).children()


def part(server: Server, name: str) -> psutil.Process:
    return next(process for process in parts(server) if name in process.cmdline())


def gone(processes: list[psutil.Process], within: float) -> bool:
    _, alive = psutil.wait_procs(processes, within)
    return not alive


def stream_text(target: Target) -> str:
    return httpx.post(f"{target.rest}/v1/chat/completions", json=STREAM, timeout=60).text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_both_parts_at_once(started: Running, number: signal.Signals) -> None:
    """Idle, Ctrl-C or SIGTERM ends service and gateway at once, with status 0."""
    server, _ = started
    family = parts(server)
    os.kill(server.pid, number)
    assert server._process.wait(5) == 0
    assert gone(family, 0.5)


def test_running_streams_finish(started: Running) -> None:
    """A stream under way when the signal comes gets its end and [DONE]."""
    server, target = started
    with ThreadPoolExecutor() as pool:
        stream = pool.submit(stream_text, target)
        time.sleep(0.5)
        os.kill(server.pid, signal.SIGINT)
        assert stream.result().endswith("data: [DONE]\n\n")
    assert server._process.wait(10) == 0


def test_a_second_signal_ends_what_runs(started: Running) -> None:
    """Ctrl-C twice does not wait for a long stream."""
    server, target = started
    request = {**STREAM, "max_tokens": 8000}
    url = f"{target.rest}/v1/chat/completions"
    with httpx.stream("POST", url, json=request, timeout=60) as response:
        next(response.iter_bytes())
        family = parts(server)
        os.kill(server.pid, signal.SIGINT)
        time.sleep(0.3)
        os.kill(server.pid, signal.SIGINT)
        server._process.wait(5)
        assert gone(family, 1)


@pytest.mark.parametrize("name", ["service", "gateway"])
def test_a_lost_part_ends_the_other(started: Running, name: str) -> None:
    """When a part crashes, the other one ends too, and the status is 1."""
    server, _ = started
    family = parts(server)
    part(server, name).kill()
    assert server._process.wait(10) == 1
    assert gone(family, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of it")
def test_parts_do_not_outlive_a_killed_parent(started: Running) -> None:
    """Killed outright, the parent takes its parts with it."""
    server, _ = started
    family = parts(server)
    os.kill(server.pid, signal.SIGKILL)
    assert gone(family, 10)


def test_a_later_start_needs_no_network(int4_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model in the cache, no package index is asked."""
    del int4_folder
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with rapport() as (server, target):
        assert server.ready_after < 30
        assert httpx.get(f"{target.rest}/health").json() == {"status": "ok"}


def test_not_healthy_until_the_model_is_loaded(int4_folder: Path) -> None:
    """The gateway answers before the model is loaded, and says that it is not there yet."""
    seen: list[int] = []
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(
            httpx.Client, "get", recorder(httpx.Client.get, seen)
        )
        del int4_folder
        stack.enter_context(rapport())
    assert seen[-1] == 200
    assert 503 in seen


def recorder(get: Callable[..., httpx.Response], seen: list[int]) -> Callable[..., httpx.Response]:
    def recording(client: httpx.Client, url: str) -> httpx.Response:
        response = get(client, url)
        seen.append(response.status_code)
        return response

    return recording


def test_all_of_a_log_of_json_is_json(int4_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parts and this process write nothing but objects, also when a part is lost."""
    del int4_folder
    monkeypatch.setenv("RAPPORT_LOG_FORMAT", "json")
    with rapport() as (server, _):
        part(server, "gateway").kill()
        server._process.wait(10)
        server._log.seek(0)
        lines = [orjson.loads(line) for line in server._log]
    assert {"rapport.service", "gateway", "rapport.serve"} <= {line["logger"] for line in lines}


def test_flags_reach_both_parts() -> None:
    """A flag of either part is passed on in the environment, secrets as they are."""
    settings = load(serve.ServeSettings, ["--http-port", "9", "--slots", "3", "--api-keys", "a,b"])
    variables = serve.environment(settings, Path("/folder"))
    assert variables["RAPPORT_HTTP_PORT"] == "9"
    assert variables["RAPPORT_SLOTS"] == "3"
    assert variables["RAPPORT_API_KEYS"] == "a,b"
    assert variables["RAPPORT_MODEL_FOLDER"] == "/folder"


def test_float_prefill_is_bounded_by_its_memory(float32_folder: Path) -> None:
    """The float32 weights are used where they fit into the memory that was given for them."""
    chosen = {
        size: serve.prepare_prefill(load(serve.ServeSettings, ["--float-prefill", size]))
        for size in ("0", "100MiB", "1GiB")
    }
    assert chosen == {"0": None, "100MiB": None, "1GiB": float32_folder}


def test_int8_keys_and_values_are_a_folder_of_their_own(int8_cache_folder: Path) -> None:
    """Asked for int8, the model that is served is the one with int8 keys and values."""
    settings = load(serve.ServeSettings, ["--provider", "cpu", "--kv-type", "int8"])
    assert serve.prepare(settings) == int8_cache_folder


def test_int8_keys_and_values_are_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CUDA would run, int8 is refused with what to do instead."""
    monkeypatch.setattr(serve, "choose_provider", lambda _: CUDA)
    settings = load(serve.ServeSettings, ["--kv-type", "int8"])
    with pytest.raises(ProviderError, match="set provider to cpu"):
        serve.prepare(settings)


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--kv-type", "int8", "--float-prefill", "1GiB"], 2),
        (["--http-port", "x"], 2),
        (["--grpc-port", "0"], 2),
        (["--http-host", "0.0.0.0"], 2),  # noqa: S104 - that it is refused is the point
        (["--provider", "cuda"], 1),
        (["--model", "unknown"], 1),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(
    flags: list[str],
    status: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wrong settings, a missing GPU and an unknown model each end with one line."""
    monkeypatch.setattr("service.engine.providers.cuda_obstacle", lambda: "no GPU was found")
    monkeypatch.setattr("rapport_cli.serve.set_up", lambda _: None)
    assert serve.main(flags) == status
    lines = capfd.readouterr().err.splitlines()
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (len(lines), len(told)) == ((1, 0) if status == 2 else (0, 1))
    assert all(line.startswith("rapport serve: ") for line in lines)
