"""Peers that watch the health and read nothing: the service's life goes on without them."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from rapport.service.process import EXIT_ENGINE_DIED
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.fuzz import http2
from tests.service.requests import chat
from tests.service.test_process import Ready, Service, Start, ready, start

__all__ = ["ready", "start"]

WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
NAMES = ("", "rapport.v1.ChatService", "rapport.v1.ModelService", "liveness", "nothing")
CONNECTIONS = 20
# In which the health is true on the busiest machine; a service that waits is never right.
SOON_S = 30
# Loading waits for a line on stdin.
HELD_LOAD = """
import sys
from rapport.service.engine.engine import Engine
load = Engine.load
def held(*arguments):
    sys.stdin.readline()
    return load(*arguments)
Engine.load = held
"""


@contextmanager
def unread_watches(address: str) -> Iterator[list[socket.socket]]:
    """Connections that watch each name, none of which reads a byte of an answer."""
    calls = b"".join(
        http2.request(2 * index + 1, WATCH, HealthCheckRequest(service=name).SerializeToString())
        for index, name in enumerate(NAMES)
    )
    with ExitStack() as opened:
        peers = [opened.enter_context(http2.connect(address)) for _ in range(CONNECTIONS)]
        for peer in peers:
            peer.sendall(http2.opening(0) + calls)
            assert http2.HEADERS in kinds(peer)  # the calls have begun
        yield peers


def kinds(peer: socket.socket) -> Iterator[int]:
    """The kinds of the frames that come."""
    with peer.makefile("rb") as answer:
        while head := answer.read(9):
            answer.read(int.from_bytes(head[:3], "big"))
            yield head[3]


class Probe:
    """A well-behaved caller that asks for the health, on a connection of its own."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub: Any = HealthStub(channel)

    def check(self, name: str = "") -> int:
        status: int = self._stub.Check(HealthCheckRequest(service=name), timeout=SOON_S).status
        return status

    def wait_until(self, status: int, name: str = "") -> None:
        """Returns once the status is heard; one that never comes is the end of the watch."""
        for heard in self._stub.Watch(HealthCheckRequest(service=name), timeout=SOON_S):
            if heard.status == status:
                return
        raise AssertionError("the watch ended")


@pytest.fixture
def probed() -> Iterator[Any]:
    with ExitStack() as opened:
        yield lambda address: Probe(opened.enter_context(grpc.insecure_channel(address)))


def test_loading(start: Start, probed: Any) -> None:
    """A model that is loaded is served, whoever watches."""
    service = start(fault=HELD_LOAD, stdin=True)
    address = service.wait_for(r"gRPC on (127\.0\.0\.1:\d+)$")
    probe = probed(address)
    assert probe.check() == NOT_SERVING
    with unread_watches(address):
        assert service.process.stdin is not None
        service.process.stdin.write("\n")
        service.process.stdin.flush()
        probe.wait_until(SERVING)
        assert probe.check("rapport.v1.ModelService") == SERVING
        service.process.terminate()
        assert_ends(service, 0)


def test_signal(ready: Ready, probed: Any) -> None:
    """At a signal the health fails, running answers finish and the process ends."""
    flags = ("--drain-delay", "0.5", "--shutdown-grace", "60", "--reader-timeout", "0.2")
    service, address = ready(*flags)
    probe = probed(address)
    with unread_watches(address), grpc.insecure_channel(address) as channel:
        request = chat(max_tokens=60, ignore_eos=True)
        stream = iter(ChatServiceStub(channel).StreamChatCompletion(request))
        next(stream)
        service.process.send_signal(signal.SIGTERM)
        probe.wait_until(NOT_SERVING)
        assert probe.check("rapport.v1.ChatService") == NOT_SERVING
        assert list(stream)[-1].usage.completion_tokens == 60
        assert_ends(service, 0)


def test_engine_death(ready: Ready, probed: Any) -> None:
    """When the engine dies the health fails, and the process ends with its status."""
    service, address = ready("--faults", "decode:die@3", "--inject-faults")
    probe = probed(address)
    with unread_watches(address), grpc.insecure_channel(address) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            list(ChatServiceStub(channel).StreamChatCompletion(chat(max_tokens=60)))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        probe.wait_until(NOT_SERVING, "liveness")
        assert_ends(service, EXIT_ENGINE_DIED)


def assert_ends(service: Service, status: int) -> None:
    """The service ends with the status while all watch."""
    assert service.end(within=SOON_S) == status
    assert "Traceback" not in service.log
