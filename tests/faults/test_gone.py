"""Callers that leave in every phase: one slot, slow steps, and the next caller has it at once."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import orjson
import pytest

from tests.contract.callers import Json, chat, to_proto
from tests.faults.conftest import Serve, Serving

PREFILL, DECODE = 0.2, 0.05
# Seconds in which the next caller has a token on the busiest machine; an answer that nobody
# waits for would take far more.
SOON = 20
ENDLESS = {"max_tokens": 2000, "ignore_eos": True}
# Seconds from the request to its caller's leaving: in its prefill, and in its decoding.
IN_PREFILL, IN_DECODE = PREFILL / 2, PREFILL + 4 * DECODE
MOMENTS = pytest.mark.parametrize("moment", [0.001, IN_PREFILL, IN_DECODE])
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture(scope="module")
def serving(serve: Serve, small_folder: Path) -> Iterator[Serving]:
    """In the end every request is accounted for, and none was failed."""
    faults = f"prefill:delay={PREFILL},decode:delay={DECODE}"
    with serve(faults, slots=1, reader_timeout=2, model_folder=small_folder) as serving:
        yield serving
    _, _, cancelled, failed = serving.account()
    assert cancelled > 0
    assert failed == 0


@pytest.fixture(autouse=True)
def next_caller(serving: Serving) -> Iterator[None]:
    """After each test the only slot is free."""
    yield
    began = time.monotonic()
    serving.rpc.whole(chat(max_tokens=1))
    assert time.monotonic() - began < SOON


def http_request(request: Json) -> bytes:
    body = orjson.dumps(request)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    return f"{head}content-type: application/json\r\n\r\n".encode() + body


@contextmanager
def connection(serving: Serving) -> Iterator[socket.socket]:
    parts = urlsplit(str(serving.target.rest))
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 10) as connected:
        yield connected


def close(connected: socket.socket) -> None:
    connected.close()


def reset(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()


def half_close_and_close(connected: socket.socket) -> None:
    connected.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    connected.close()


def call(serving: Serving, *, stream: bool, timeout: float | None = None) -> Any:
    """A call over gRPC that is not waited for."""
    stub, request = serving.rpc.stub, to_proto(chat(**ENDLESS))
    if stream:
        return stub.StreamChatCompletion(request, timeout=timeout)
    return stub.CreateChatCompletion.future(request, timeout=timeout)


@MOMENTS
@STREAM
def test_deadline_of_a_grpc_caller(serving: Serving, moment: float, *, stream: bool) -> None:
    late = call(serving, stream=stream, timeout=moment)
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@MOMENTS
@STREAM
def test_a_grpc_caller_cancels(serving: Serving, moment: float, *, stream: bool) -> None:
    left = call(serving, stream=stream)
    time.sleep(moment)
    left.cancel()


@MOMENTS
@STREAM
@pytest.mark.parametrize("leave", [close, reset, half_close_and_close])
def test_an_http_caller_goes(
    serving: Serving, moment: float, leave: Callable[[socket.socket], None], *, stream: bool
) -> None:
    with connection(serving) as connected:
        connected.sendall(http_request(chat(stream=stream, **ENDLESS)))
        time.sleep(moment)
        leave(connected)


@STREAM
def test_deadline_of_an_http_caller(serving: Serving, *, stream: bool) -> None:
    headers = {"content-type": "application/json", "grpc-timeout": "200m"}
    response = serving.rest.post(chat(stream=stream, **ENDLESS), headers=headers)
    assert response.status_code == 504


def test_callers_leave_the_line(serving: Serving) -> None:
    """Those who wait behind the only slot leave it in every way, and never had it."""
    with ThreadPoolExecutor() as threads, connection(serving) as first:
        first.sendall(http_request(chat(stream=True, **ENDLESS)))
        first.recv(1 << 16)
        request = to_proto(chat(**ENDLESS))
        waiting = [
            threads.submit(serving.rpc.failure, request, timeout=0.3),
            threads.submit(serving.rpc.failure, request, timeout=0.6),
        ]
        with connection(serving) as closed, connection(serving) as was_reset:
            for connected, leave in ((closed, close), (was_reset, reset)):
                connected.sendall(http_request(chat(**ENDLESS)))
                time.sleep(0.2)
                leave(connected)
        codes = [each.result(5)[0] for each in waiting]
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 2


def leave_all(calls: Sequence[Any], after: float) -> None:
    time.sleep(after)
    for left in calls:
        left.cancel()


def test_prompts_that_are_still_read(serving: Serving) -> None:
    """More long prompts than there are threads to read them, all given up meanwhile."""
    long = to_proto(chat("some words " * 3000, **ENDLESS))
    leave_all([serving.rpc.stub.StreamChatCompletion(long) for _ in range(20)], after=0.05)


def test_grammars_that_are_still_compiled(serving: Serving) -> None:
    """A schema of many properties takes its time; nobody waits for it any more."""
    names = [f"property_{number}" for number in range(150)]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    request = to_proto(chat(response_format=wanted, **ENDLESS))
    leave_all([serving.rpc.stub.StreamChatCompletion(request) for _ in range(10)], after=0.02)


def test_half_closed_caller_is_answered(serving: Serving) -> None:
    """Who only stopped sending has its answer, whole, through both processes."""
    with connection(serving) as connected:
        connected.sendall(http_request(chat(max_tokens=8, stream=True)))
        connected.shutdown(socket.SHUT_WR)
        received = b""
        while data := connected.recv(1 << 16):
            received += data
    assert received.count(b"data: ") >= 8
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
