"""The wheels, installed away from the checkout, serve and can be called."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from bench.server import Server, free_ports
from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision
from rapport.v1 import chat_pb2, chat_pb2_grpc, message_pb2
from tests.packaging.conftest import MARKER, ROOT, clean_environment, run

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

MODEL = "smollm2-135m-instruct"
# What a caller writes who has the stubs alone.
CALLER = """\
import sys
import grpc
from rapport.v1 import chat_pb2, chat_pb2_grpc, message_pb2

question = message_pb2.ChatMessage(
    role=message_pb2.ROLE_USER, content=message_pb2.ChatContent(text="Hi")
)
request = chat_pb2.CreateChatCompletionRequest(
    model="smollm2-135m-instruct", messages=[question], max_tokens=4
)
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    for reply in stub.StreamChatCompletion(request):
        for choice in reply.choices:
            print(choice.delta.content, end="", flush=True)
"""
COMMANDS = {
    "--help": 0,
    "serve --help": 0,
    "service --help": 0,
    "gateway --help": 0,
    "models list": 0,
    "keys list --file keys.toml": 0,
    "chat --target 127.0.0.1:1 Hi": 1,
    "top --once --url http://127.0.0.1:1/metrics": 1,
}


@pytest.fixture(scope="module")
def model() -> None:
    """The model is in the cache before a server wants it."""
    ensure(MODEL, cpu_precision())


@pytest.fixture(scope="module")
def address(model: None, installed: Path, hostile: Path) -> Iterator[tuple[str, str]]:
    """REST and gRPC addresses of a `rapport serve` that runs in the hostile folder."""
    grpc_port, http_port, *metrics = free_ports(4)
    ports = {
        "GRPC_PORT": grpc_port,
        "HTTP_PORT": http_port,
        "METRICS_PORT": metrics[0],
        "GATEWAY_METRICS_PORT": metrics[1],
    }
    environment = clean_environment() | {
        f"RAPPORT_{name}": str(port) for name, port in ports.items()
    }
    del model  # it is fetched before, so that the start is quick
    rest = f"http://127.0.0.1:{http_port}"
    # `Server` starts its program in the tests' working directory; env changes it.
    command = ["env", f"--chdir={hostile}", str(installed / "rapport"), "serve"]
    with Server(command, environment, f"{rest}/health"):
        yield rest, f"127.0.0.1:{grpc_port}"


def test_wheels_hold_all_data_files(wheels: list[Path]) -> None:
    """Every file of the parts that git has is in a wheel."""
    listed = subprocess.run(
        ["git", "ls-files", "*/rapport/*"],  # noqa: S607 - git of the machine
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    expected = {
        name.partition("/")[2]
        for name in listed.stdout.splitlines()
        if name.partition("/")[0] in {"protos", "common", "models", "service", "gateway", "cli"}
    }
    held = {name for wheel in wheels for name in zipfile.ZipFile(wheel).namelist()}
    assert expected - held == set()
    assert {name.partition("/")[0] for name in held if ".dist-info" not in name} == {"rapport"}


def test_wheels_serve_in_any_folder(
    address: tuple[str, str], installed: Path, hostile: Path
) -> None:
    """REST and gRPC answer, and what lies in the working directory is never imported."""
    rest, target = address
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    reply = httpx.post(f"{rest}/v1/chat/completions", json=asked, timeout=60)
    assert reply.status_code == httpx.codes.OK
    assert reply.json()["choices"][0]["message"]["content"]
    assert httpx.get(f"{rest}/docs").status_code == httpx.codes.OK
    question = message_pb2.ChatMessage(
        role=message_pb2.ROLE_USER, content=message_pb2.ChatContent(text="Hi")
    )
    request = chat_pb2.CreateChatCompletionRequest(model=MODEL, messages=[question], max_tokens=4)
    with grpc.insecure_channel(target) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        assert stub.CreateChatCompletion(request, timeout=60).choices[0].message.content
    chat = [installed / "rapport", "chat", "--target", target, "--max-tokens", "4", "Hi"]
    run(*chat, cwd=hostile)
    assert not (hostile / MARKER).exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_in_any_folder(command: str, installed: Path, hostile: Path) -> None:
    """No command imports what lies in the working directory."""
    (hostile / "keys.toml").touch(mode=0o600)
    ended = subprocess.run(
        [installed / "rapport", *command.split()],
        cwd=hostile,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == COMMANDS[command], ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (hostile / MARKER).exists()


def test_pip_is_run_in_any_folder(installed: Path, hostile: Path, tmp_path: Path) -> None:
    """The pip that fetches models is the environment's own."""
    program = (
        "import pathlib, sys\n"
        "from rapport.models.cache.fetch import run_pip\n"
        "run_pip(['--version'], pathlib.Path(sys.argv[1]), lambda: None, 'pip')\n"
    )
    run(installed / "python", "-P", "-c", program, tmp_path, cwd=hostile)
    assert not (hostile / MARKER).exists()


def test_stubs_alone_get_an_answer(
    address: tuple[str, str], new_environment: Callable[[], Path], tmp_path: Path
) -> None:
    """`pip install ./protos` is all that a caller needs, and brings nothing of the server."""
    programs = new_environment()
    run(programs / "pip", "install", "--quiet", "./protos", cwd=ROOT)
    caller = tmp_path / "caller.py"
    caller.write_text(CALLER)
    ended = subprocess.run(
        [programs / "python", caller, address[1]],
        cwd=tmp_path,
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert ended.stdout
    listed = subprocess.run(
        [programs / "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    )
    names = {line.partition("==")[0] for line in listed.stdout.splitlines()}
    assert names - {"pip", "setuptools", "wheel"} == {
        "googleapis-common-protos",
        "grpcio",
        "protobuf",
        "rapport-protos",
        "typing_extensions",
    }


def test_sdists_install(new_environment: Callable[[], Path], tmp_path: Path) -> None:
    """The wheels that are built from the sdists hold what those of the checkout do."""
    programs = new_environment()
    run(programs / "pip", "install", "--quiet", "build", cwd=tmp_path)
    for folder in (ROOT / "protos", ROOT):
        run(programs / "python", "-m", "build", "--sdist", f"--outdir={tmp_path}", folder, cwd=ROOT)
    sdists = sorted(tmp_path.glob("*.tar.gz"))
    for sdist in sdists:
        with tarfile.open(sdist) as archive:
            assert any(name.endswith("/LICENSE") for name in archive.getnames())
    run(programs / "pip", "install", "--quiet", "--no-deps", *sdists, cwd=tmp_path)
    listed = subprocess.run(
        [programs / "pip", "show", "--files", "rapport-server", "rapport-protos"],
        check=True,
        capture_output=True,
        text=True,
    )
    for name in ("calibration.txt", "docs.html", "protos.binpb", "cli/py.typed"):
        assert name in listed.stdout
