"""Told to stop under load, `rapport serve` finishes what it has accepted and loses nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from bench.server import Server, Target, rapport
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.service.requests import MODEL, chat

TOKENS = 16
# Seconds. Tests, servers and whoever else share the machine.
GRACE = 600
# Steps of a tiny model take as long as those of a real one with all slots in use.
PACE = {"inject_faults": True, "faults": "decode:delay=0.1"}
WHOLE, REFUSED = "whole", "refused"


@pytest.fixture
def started(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Target]]:
    monkeypatch.setattr("bench.server.LOG_LINES", 10_000)
    with rapport(model_folder=tiny_folder, shutdown_grace=GRACE, **PACE) as running:
        yield running


class Callers:
    """Ask over REST and gRPC, and say what became of it: whole or refused, nothing else."""

    def __init__(self, http: httpx.AsyncClient, stub: ChatServiceStub) -> None:
        self._http = http
        self._stub = stub
        self.kinds = (self.rest, self.rest_stream, self.grpc, self.grpc_stream)

    async def rest(self, text: str) -> str:
        reply = await self._http.post("/v1/chat/completions", json=body(text))
        if refused(reply):
            return REFUSED
        assert reply.json()["usage"]["completion_tokens"] == TOKENS
        return WHOLE

    async def rest_stream(self, text: str) -> str:
        reply = await self._http.post("/v1/chat/completions", json=body(text) | {"stream": True})
        if refused(reply):
            return REFUSED
        assert '"finish_reason":"length"' in reply.text
        assert reply.text.endswith("data: [DONE]\n\n")
        return WHOLE

    async def grpc(self, text: str) -> str:
        try:
            reply = await self._stub.CreateChatCompletion(asked(text))
        except grpc.aio.AioRpcError as error:
            return text_of(error)
        assert reply.usage.completion_tokens == TOKENS
        return WHOLE

    async def grpc_stream(self, text: str) -> str:
        stream = aiter(self._stub.StreamChatCompletion(asked(text)))
        try:
            pieces = [await anext(stream)]
        except grpc.aio.AioRpcError as error:
            return text_of(error)
        pieces += [piece async for piece in stream]
        assert pieces[-1].usage.completion_tokens == TOKENS
        return WHOLE

    async def ask(self, count: int, text: str) -> Counter[str]:
        """So many requests at once, of all kinds in turn."""
        asks: list[Callable[[str], Awaitable[str]]] = [*self.kinds] * (count // len(self.kinds))
        said = await asyncio.gather(*(ask(f"{text} {place}") for place, ask in enumerate(asks)))
        return Counter(said)


def body(text: str) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "max_tokens": TOKENS, "ignore_eos": True}


def asked(text: str) -> object:
    return chat(text, max_tokens=TOKENS, ignore_eos=True)


def refused(reply: httpx.Response) -> bool:
    """Whether it is a refusal, which then must be one that clients retry."""
    if reply.status_code == 200:
        return False
    assert reply.status_code == 503, reply.text
    assert reply.headers["retry-after"] == "1"
    assert reply.headers.get("x-should-retry") != "false"
    return True


def text_of(error: grpc.aio.AioRpcError) -> str:
    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
    status = rpc_status.from_call(error)  # type: ignore[arg-type] - its types know no asyncio
    assert status is not None
    assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)
    return REFUSED


@pytest.mark.timeout(GRACE + 60)
@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.scale)])
async def test_drain_under_load(started: tuple[Server, Target], count: int) -> None:
    """All that is accepted finishes, all else is refused so that it is tried again, exit is 0."""
    server, target = started
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=str(target.rest), timeout=GRACE, limits=limits) as http,
        grpc.aio.insecure_channel(str(target.grpc)) as channel,
    ):
        callers = Callers(http, ChatServiceStub(channel))
        early = asyncio.create_task(callers.ask(count, "early"))
        await asyncio.sleep(0.1 + count / 100)
        os.kill(server.pid, signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert await callers.ask(16, "late") == {REFUSED: 16}
        said = await early
    assert await asyncio.to_thread(server._process.wait, 20) == 0
    assert said.total() == count
    assert said[WHOLE] > count / 2
    counts = re.search(r"requests: (\d+) accepted, (\d+) finished", server._log_tail())
    assert counts is not None
    assert counts.groups() == (str(said[WHOLE]),) * 2
