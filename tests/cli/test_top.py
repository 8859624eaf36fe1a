"""`rapport top`, in front of a served process and of none."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from rich.console import Console

from bench.server import Target, free_ports
from rapport.cli import top
from rapport.common.metrics.endpoint import opened
from rapport.common.metrics.registry import new_registry
from tests.conftest import MODEL
from tests.plain_http import NO_CERTIFICATES

LONG = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count."}],
    "max_tokens": 60,
    "ignore_eos": True,
}


def ran(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rapport.cli.top", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def metrics_on(port: int, registry: CollectorRegistry) -> Iterator[None]:
    with opened(registry, "127.0.0.1", port) as endpoint:
        serving = Thread(target=endpoint.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield
        finally:
            endpoint.shutdown()
            serving.join()


def shown(service: top.Watched, gateway: top.Watched) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(top.look([service], gateway))
    return captured.get()


def keep_asking(url: str, ended: Event) -> bool:
    """Asks again and again. Whether all were answered."""
    answered = True
    with httpx.Client(timeout=60, verify=NO_CERTIFICATES) as http:
        while answered and not ended.is_set():
            answered = http.post(url, json=LONG).is_success
    return answered


def test_once(server: Target) -> None:
    """One frame has what ran in its interval: tokens, steps, slots, the gateway beside."""
    urls = ("--url", str(server.service_metrics), "--gateway-url", str(server.gateway_metrics))
    with ThreadPoolExecutor() as pool:
        url = f"{server.rest}/v1/chat/completions"
        ended = Event()
        asking = [pool.submit(keep_asking, url, ended) for _ in range(2)]
        try:
            seen = ran("--once", "--interval", "1", *urls)
        finally:
            ended.set()
        assert all(each.result() for each in asking)
    assert (seen.returncode, seen.stderr) == (0, "")
    assert f"serving, {MODEL} (float32) on cpu" in seen.stdout
    for row in ("requests", "TTFT", "ITL", "slots", "waiting", "KV", "prefixes", "drafts"):
        assert re.search(rf"^{row} ", seen.stdout, re.MULTILINE), row
    assert re.search(r"^gateway .* service ready", seen.stdout, re.MULTILINE)
    assert int(re.search(r"out (\d+)/s", seen.stdout)[1]) > 0  # type: ignore[index]


def test_without_a_gateway(server: Target) -> None:
    """A gateway that does not answer is left out."""
    (port,) = free_ports(1)
    nowhere = f"http://127.0.0.1:{port}/metrics"
    flags = ("--url", str(server.service_metrics), "--gateway-url", nowhere)
    seen = ran("--once", "--interval", "0.1", *flags)
    assert seen.returncode == 0
    assert not re.search("^gateway", seen.stdout, re.MULTILINE)


def test_nothing_there() -> None:
    """A service that does not answer is reported in one line, with status 1."""
    (port,) = free_ports(1)
    seen = ran("--once", "--url", f"http://127.0.0.1:{port}/metrics")
    assert (seen.returncode, seen.stdout) == (1, "")
    assert re.fullmatch(r"rapport top: http://\S+ gives no metrics: .*refused.*\n", seen.stderr)


def test_something_else_there(server: Target) -> None:
    """So is what answers with other things."""
    seen = ran("--once", "--url", f"{server.rest}/docs")
    assert seen.returncode == 1
    assert "gives no metrics" in seen.stderr


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "soon"])
def test_bad_interval(text: str) -> None:
    """An interval that is none is refused."""
    seen = ran("--once", "--interval", text)
    assert seen.returncode == 2
    assert "--interval" in seen.stderr


def test_a_service_that_comes_and_goes() -> None:
    """While nothing answers that is said; what comes back is shown from its second look on."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/metrics"
    service, gateway = top.Watched(url), top.Watched(url)
    assert "trying again" in shown(service, gateway)
    for _ in range(2):
        registry = new_registry("service")
        Counter("rapport_completion_tokens", "-", registry=registry).inc()
        with metrics_on(port, registry):
            assert "measuring" in shown(service, gateway)
            assert "rapport 0" in shown(service, gateway)
        assert "trying again" in shown(service, gateway)


def test_replicas() -> None:
    """Each has a frame of its own, and one that does not answer keeps none of the others out."""
    first, second, nowhere = free_ports(3)
    *services, gateway = (
        top.Watched(f"http://127.0.0.1:{port}/metrics")
        for port in (first, second, nowhere, nowhere)
    )
    console, registry = Console(width=200), new_registry("service")
    Counter("rapport_completion_tokens", "-", registry=registry).inc()
    with metrics_on(first, registry), metrics_on(second, registry):
        top.look(services, gateway)
        with console.capture() as captured:
            console.print(top.look(services, gateway))
    assert captured.get().count("rapport 0") == 2
    assert captured.get().count("trying again") == 1


def test_labels_do_not_command_the_terminal() -> None:
    """Whatever the metrics name, it is text: no escape sequences and no markup."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/metrics"
    registry = new_registry("service")
    labels = ["model", "precision", "provider"]
    info = Gauge("rapport_model_info", "-", labels, registry=registry)
    info.labels("[red]m\x1b[2J\n", "p", "c").set(1)
    service, gateway = top.Watched(url), top.Watched(url)
    with metrics_on(port, registry):
        top.look([service], gateway)
        assert r"[red]m\x1b[2J\n (p) on c" in shown(service, gateway)


def test_until_ctrl_c(server: Target) -> None:
    """Frames come until Ctrl-C, which is no failure, also to a background job that ignores it."""
    command = [sys.executable, "-m", "rapport.cli.top", "--interval", "0.1"]
    flags = ["--url", str(server.service_metrics), "--gateway-url", str(server.gateway_metrics)]
    environment = os.environ | {"FORCE_COLOR": "1", "TERM": "xterm"}  # as if in a terminal
    background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command, *flags]
    process = subprocess.Popen(background, stdout=subprocess.PIPE, env=environment)
    with process:
        assert process.stdout is not None
        seen = b""
        while MODEL.encode() not in seen:
            seen += process.stdout.read1()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
