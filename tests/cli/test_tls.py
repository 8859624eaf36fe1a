"""`rapport serve` and `rapport chat` with TLS on, as real processes."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bench.server import Server, free_ports
from rapport.cli.scrape import scrape
from rapport.common.tls import TlsFiles
from tests.certificates import Authority

END = dt.datetime(2048, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
RAPPORT = str(Path(sys.executable).with_name("rapport"))


@dataclass(frozen=True, slots=True)
class Secure:
    """A server whose certificate is of `ca`, and a caller whose certificate is."""

    ca: Authority
    caller: TlsFiles
    grpc: str
    rest: httpx.Client
    metrics: tuple[str, str]
    """Of service and gateway."""


@pytest.fixture(scope="module")
def secure(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """`rapport serve` with TLS on both ports and mTLS on gRPC; its certificate has another name."""
    ca = Authority(tmp_path_factory.mktemp("tls"))
    own = ca.issue("server", "chat.example.org", "127.0.0.1", end=END)
    caller = ca.issue("caller")
    grpc_port, http_port, *metrics_ports = free_ports(4)
    settings = {
        "MODEL_FOLDER": tiny_folder,
        "GRPC_PORT": grpc_port,
        "HTTP_PORT": http_port,
        "METRICS_PORT": metrics_ports[0],
        "GATEWAY_METRICS_PORT": metrics_ports[1],
        "GRPC_TLS_CERT": own.chain,
        "GRPC_TLS_KEY": own.key,
        "GRPC_CLIENT_CA": ca.path,
        "HTTP_TLS_CERT": own.chain,
        "HTTP_TLS_KEY": own.key,
    }
    variables = {f"RAPPORT_{name}": str(value) for name, value in settings.items()}
    url, trust = f"https://127.0.0.1:{http_port}", ssl.create_default_context(cafile=ca.path)
    with (
        Server([RAPPORT, "serve"], os.environ | variables, f"{url}/health", trust),
        httpx.Client(base_url=url, verify=trust, timeout=60) as client,
    ):
        one, other = (f"http://127.0.0.1:{port}/metrics" for port in metrics_ports)
        yield Secure(ca, caller, f"127.0.0.1:{grpc_port}", client, (one, other))


def chat(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [RAPPORT, "chat", "--max-tokens", "4", *flags, "Hi"]
    return subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False
    )


def test_parts_meet_without_more_settings(secure: Secure) -> None:
    """The gateway reaches a service that asks everybody else for a certificate."""
    request = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 2,
    }
    assert secure.rest.post("/v1/chat/completions", json=request).status_code == 200


def test_ends_of_certificates(secure: Secure) -> None:
    """Each part tells of its own, by the setting that names it."""
    name = "certificate_expiry_timestamp_seconds"
    service, gateway = map(scrape, secure.metrics)
    assert service.total(name, setting="grpc_tls_cert") == END.timestamp()
    assert gateway.total(f"gateway_{name}", setting="http_tls_cert") == END.timestamp()


def test_chat(secure: Secure) -> None:
    """The terminal talks over TLS, with its certificate from flags or the environment."""
    own = {"CA": secure.ca.path, "CERT": secure.caller.chain, "KEY": secure.caller.key}
    flags = [word for name, path in own.items() for word in (f"--{name.lower()}", str(path))]
    done = chat("--target", secure.grpc, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    variables = {f"RAPPORT_UPSTREAM_{name}": str(path) for name, path in own.items()}
    assert chat("--target", secure.grpc, **variables).returncode == 0


def test_chat_that_is_not_let_in(secure: Secure) -> None:
    """Without a certificate, or without TLS, it ends with one line."""
    for flags in (["--ca", str(secure.ca.path)], []):
        done = chat("--target", secure.grpc, *flags)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cert", "a.pem"], "--key is needed along with --cert"),
        (["--ca", "/nowhere"], "/nowhere: No such file or directory"),
    ],
)
def test_chat_with_wrong_files(flags: list[str], message: str) -> None:
    """Files that cannot be used are reported in one line, with status 2."""
    done = chat(*flags)
    assert (done.returncode, done.stderr) == (2, f"rapport chat: {message}\n")


@pytest.mark.parametrize("part", ["grpc", "http"])
def test_serve_with_wrong_files(tmp_path: Path, part: str) -> None:
    """Certificates that cannot be used end `rapport serve` at once, with one line."""
    files = Authority(tmp_path).issue("a")
    pair = [f"--{part}-tls-cert", str(files.chain), f"--{part}-tls-key", "/nowhere"]
    command = [sys.executable, "-m", "rapport.cli", "serve", *pair]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.endswith("/nowhere: No such file or directory")
