from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from rapport.common.metrics import endpoint as module
from rapport.common.metrics.endpoint import MAX_CONNECTIONS, Endpoint, exposed, opened
from rapport.common.metrics.registry import new_registry
from rapport.common.settings import Settings
from tests.plain_http import NO_CERTIFICATES


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc(3)
    return registry


def opening(registry: CollectorRegistry, host: str) -> Endpoint:
    endpoint = opened(registry, host, 0)
    assert endpoint is not None
    return endpoint


@contextmanager
def serving(registry: CollectorRegistry) -> Iterator[Endpoint]:
    with opening(registry, "127.0.0.1") as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            thread.join()


@pytest.fixture
def endpoint(registry: CollectorRegistry) -> Iterator[Endpoint]:
    with serving(registry) as endpoint:
        yield endpoint


def connected(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection(endpoint.server_address[:2], timeout=5)


def test_scrape(endpoint: Endpoint) -> None:
    """A GET gets the metrics in a form that Prometheus reads."""
    text = httpx.get(endpoint.url, verify=NO_CERTIFICATES).text
    (things,) = text_string_to_metric_families(text)
    assert [(sample.name, sample.value) for sample in things.samples] == [("things_total", 3)]


def test_many_at_once(endpoint: Endpoint) -> None:
    """Scrapes at the same time all get their answer."""
    with ThreadPoolExecutor(MAX_CONNECTIONS // 2) as pool:
        answers = list(
            pool.map(lambda _: httpx.get(endpoint.url, verify=NO_CERTIFICATES), range(40))
        )
    assert {answer.status_code for answer in answers} <= {200}


@pytest.mark.parametrize("sent", [b"\0\xff\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"GET\r\n", b""])
def test_what_is_no_scrape(endpoint: Endpoint, sent: bytes) -> None:
    """Anything else ends its own connection, and the next scrape is answered."""
    with connected(endpoint) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert httpx.get(endpoint.url, verify=NO_CERTIFICATES).is_success


def test_silent_connections_hold_up_nobody(endpoint: Endpoint) -> None:
    """However many connections send no request, scrapes are answered; the oldest is closed."""
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(endpoint)) for _ in range(MAX_CONNECTIONS + 5)]
        for _ in range(3):
            assert httpx.get(endpoint.url, timeout=20, verify=NO_CERTIFICATES).is_success
        assert silent[0].recv(1) == b""
        assert threading.active_count() < MAX_CONNECTIONS + 20


def test_unread_answers_hold_up_nobody(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do clients that ask and do not read, whatever the size of the answer."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(module, "CONNECTION_TIMEOUT_S", 60.0)
    monkeypatch.setattr(module._Handler, "timeout", 60.0)
    large = Counter("large", "Large.", ["label"], registry=registry)
    for number in range(20_000):
        large.labels(f"{number:0100}")
    with serving(registry) as endpoint, ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(connected(endpoint))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert httpx.get(endpoint.url, timeout=60, verify=NO_CERTIFICATES).is_success


def trickle(client: socket.socket) -> None:
    for _ in range(1000):
        client.sendall(b"G")
        time.sleep(0.02)


def test_a_connection_has_its_time(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends a byte now and then is closed in the end."""
    monkeypatch.setattr(module, "CONNECTION_TIMEOUT_S", 0.5)
    with serving(registry) as endpoint, connected(endpoint) as client:
        with pytest.raises(ConnectionError):
            trickle(client)
        assert httpx.get(endpoint.url, verify=NO_CERTIFICATES).is_success


def test_who_leaves_in_the_middle_is_no_fault(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client that resets its connection leaves no traceback."""
    for _ in range(5):
        client = connected(endpoint)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    assert httpx.get(endpoint.url, verify=NO_CERTIFICATES).is_success
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and the port stays with who has it."""
    with opening(registry, "127.0.0.1") as first:
        port = int(first.server_address[1])
        assert opened(registry, "127.0.0.1", port) is None
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in caplog.text


def test_a_host_that_is_none(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """A name that leads nowhere is in the log."""
    assert opened(registry, "no.such.host.invalid", 0) is None
    assert "no.such.host.invalid:0 cannot be listened on" in caplog.text


def test_ipv6(registry: CollectorRegistry) -> None:
    """Its URL has the address in brackets."""
    with opening(registry, "::1") as endpoint:
        assert endpoint.url.startswith("http://[::1]:")


def test_gone_at_the_end(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """While it lasts it is served where the log says; then the port is free."""
    caplog.set_level("INFO")
    with exposed(registry, Settings(), 0):
        url = httpx.URL(caplog.messages[-1].removeprefix("metrics on "))
        assert httpx.get(url, verify=NO_CERTIFICATES).is_success
    connection = HTTPConnection(url.host, url.port)
    with pytest.raises(ConnectionRefusedError):
        connection.connect()


def test_not_wanted(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """Without metrics no port is opened."""
    caplog.set_level("INFO")
    with exposed(registry, Settings(metrics=False), 0):
        assert caplog.messages == []


def test_every_process_tells_of_itself() -> None:
    """Memory, CPU and files are metrics, with part and version."""
    registry = new_registry("gateway")
    assert registry.get_sample_value("process_resident_memory_bytes")
    assert registry.get_sample_value("process_open_fds")
    names = {sample.name: sample.labels for f in registry.collect() for sample in f.samples}
    assert names["rapport_build_info"]["part"] == "gateway"
