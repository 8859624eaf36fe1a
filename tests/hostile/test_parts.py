"""Other programs of the machine, and parts that hang: what stands between service and gateway."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.conftest import MODEL
from tests.hostile.attacked import Attacked, wait_until
from tests.hostile.attacks import junk
from tests.hostile.conftest import Serve
from tests.plain_http import NO_CERTIFICATES

STALL_TIMEOUT_S = 3
# For a part to be loaded again on a busy machine.
MAX_RESTART_S = 120
# Longer than the gateway takes to connect again.
RECONNECTED_S = 4


def part(attacked: Attacked, name: str) -> psutil.Process:
    parts = psutil.Process(attacked.server.pid).children()
    return next(process for process in parts if f"rapport.{name}" in process.cmdline())


def ask(attacked: Attacked, **fields: object) -> httpx.Response:
    request = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    headers = {"authorization": f"Bearer {attacked.keys['greedy']}"}
    url = f"{attacked.rest}/v1/chat/completions"
    return httpx.post(
        url,
        json=request | fields,
        headers=headers,
        timeout=60,
        trust_env=False,
        verify=NO_CERTIFICATES,
    )


def serves(attacked: Attacked) -> bool:
    try:
        return ask(attacked).is_success
    except httpx.TransportError:
        return False


@contextmanager
def in_the_place_of_the_service(attacked: Attacked) -> Iterator[socket.socket]:
    """A program that listens on the service's port once that has crashed."""
    address = urlsplit(f"//{attacked.grpc}")
    service = part(attacked, "service")
    service.kill()
    service.wait(20)
    with socket.create_server((str(address.hostname), int(address.port or 0))) as listening:
        yield listening


def test_who_takes_the_port_gets_no_key(serve: Serve) -> None:
    """A program in the place of the service hears nothing of callers, who get a 503."""
    with serve() as attacked:
        with in_the_place_of_the_service(attacked) as listening:
            listening.settimeout(RECONNECTED_S)
            assert ask(attacked).status_code == 503
            with pytest.raises(TimeoutError):
                listening.accept()
            assert ask(attacked).status_code == 503
        wait_until(lambda: serves(attacked), "the service is back", MAX_RESTART_S)


@pytest.mark.parametrize("name", ["service", "gateway"])
def test_a_part_that_hangs_is_replaced(serve: Serve, name: str) -> None:
    """Calls in flight end with an error soon after a part stops, and the next are served."""
    with serve(part_stall_timeout=STALL_TIMEOUT_S) as attacked:
        os.kill(part(attacked, name).pid, signal.SIGSTOP)
        try:
            assert ask(attacked, max_tokens=200).status_code == 503
        except httpx.TransportError:
            assert name == "gateway"
        wait_until(lambda: serves(attacked), f"the {name} is back", MAX_RESTART_S)
        assert f"the {name} has not responded for {STALL_TIMEOUT_S} s" in attacked.server.log()


def test_slow_scrapes(attacked: Attacked) -> None:
    """Scrapes that do not end, and answers that are not read, deny nobody the metrics."""
    metrics = (attacked.target.service_metrics, attacked.target.gateway_metrics)
    with attacked.beside():
        for url in metrics:
            junk.slow_scrapes(str(url), clients=60, seconds=4)
