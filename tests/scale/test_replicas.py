"""Replicas behind the real Envoy: what fails, what goes on, and where requests go."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import BadRequest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from rapport.affinity import AFFINITY_HEADER, affinity_key
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.scale.replicas import REPLICAS, Callers, Replicas, callers, replicas, until
from tests.scale.test_drain import WHOLE, body
from tests.service.requests import chat

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

# Steps take as long as those of a real model, so that kills meet running streams.
PACE = {"inject_faults": True, "faults": "decode:delay=0.05"}


@pytest.fixture(scope="module")
def running(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with replicas(folder, tiny_folder, shutdown_grace=30, **PACE) as started:
        yield started


@asynccontextmanager
async def loaded(running: Replicas) -> AsyncIterator[Callers]:
    """A steady load while the `with` lasts; its requests have ended after it."""
    stop = asyncio.Event()
    async with callers(running) as asking:
        load = asyncio.create_task(asking.keep_asking(stop))
        await asyncio.sleep(1)
        try:
            yield asking
        finally:
            stop.set()
            await load


async def test_everything_passes_through(running: Replicas) -> None:
    """All four ways, reflection, rich errors, and HTTP/2 without TLS."""
    async with callers(running) as asking:
        for way in ("rest", "rest_stream", "grpc", "grpc_stream"):
            await asking.ask(way, "Hello")
        assert asking.outcomes == {"whole": 4}
    with grpc.insecure_channel(running.grpc) as channel:
        names = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert "rapport.v1.ChatService" in names
        with pytest.raises(grpc.RpcError) as caught:
            ChatServiceStub(channel).CreateChatCompletion(chat(max_tokens=-1))
        status = rpc_status.from_call(caught.value)
        assert status is not None
        assert any(detail.Is(BadRequest.DESCRIPTOR) for detail in status.details)


async def test_a_killed_replica(running: Replicas) -> None:
    """Only what it was serving fails; it is readmitted when it is back."""
    async with loaded(running) as asking:
        os.kill(running.pid("service-2"), signal.SIGKILL)
        await asyncio.to_thread(until, lambda: running.serving() < REPLICAS)
        await asyncio.to_thread(until, lambda: running.serving() == REPLICAS)
    failed = asking.outcomes.total() - asking.outcomes["whole"]
    assert failed <= 8, asking.outcomes
    assert "service-2 ended by SIGKILL" in (running.state.logs / "replicas.log").read_text()


async def test_streams_of_a_killed_replica(running: Replicas) -> None:
    """Those that it was serving end with an error, at once; the others go on to their end."""
    async with (
        grpc.aio.insecure_channel(running.grpc) as channel,
        httpx.AsyncClient(base_url=running.rest, timeout=120, trust_env=False) as http,
    ):
        stub = ChatServiceStub(channel)
        streams = [over_grpc(stub, f"grpc {number}") for number in range(6)]
        streams += [over_rest(http, f"rest {number}") for number in range(6)]
        load = asyncio.gather(*streams)
        used = partial(running.totals, "slots_used")
        await asyncio.to_thread(until, lambda: sum(used()) == len(streams) and min(used()) > 0)
        os.kill(running.pid("service-1"), signal.SIGKILL)
        ends = await load
    lost = [end for end in ends if end != WHOLE]
    assert lost
    assert WHOLE in ends
    assert set(lost) <= {"INTERNAL", "internal_server_error"}
    await asyncio.to_thread(until, lambda: running.serving() == REPLICAS)


async def over_grpc(stub: Any, text: str) -> str:
    """How a long stream ends."""
    try:
        async for _ in stub.StreamChatCompletion(chat(text, max_tokens=100, ignore_eos=True)):
            pass
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return WHOLE


async def over_rest(http: httpx.AsyncClient, text: str) -> str:
    """The same."""
    asked = body(text) | {"max_tokens": 100, "stream": True}
    said = ""
    with suppress(httpx.RemoteProtocolError):  # a stream that fails has no end
        async with http.stream("POST", "/v1/chat/completions", json=asked) as reply:
            async for piece in reply.aiter_text():
                said += piece
    last = said.rstrip().rpartition("data: ")[2]
    return WHOLE if last == "[DONE]" else str(json.loads(last)["error"]["code"])


async def test_a_hanging_replica_is_ejected(running: Replicas) -> None:
    """It gets nothing more within its health timeouts, and requests again once it goes on."""
    pid = running.pid("service-3")
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.to_thread(until, lambda: running.serving() == REPLICAS - 1, 15)
        async with callers(running) as asking:
            await asyncio.gather(*(asking.ask("grpc", f"text {number}") for number in range(20)))
        assert asking.outcomes == {"whole": 20}
    finally:
        os.kill(pid, signal.SIGCONT)
    await asyncio.to_thread(until, lambda: running.serving() == REPLICAS)


async def test_rolling_restart(running: Replicas) -> None:
    """Every service and gateway is restarted under load, and no request fails."""
    before = running.state.parts()
    async with loaded(running) as asking:
        await asyncio.to_thread(running.restart)
    after = running.state.parts()
    assert {name for name in before if before[name] == after[name]} == {"envoy"}
    assert asking.outcomes == {"whole": asking.outcomes.total()}


async def test_a_key_stays_and_spills_over(running: Replicas) -> None:
    """Requests of a key go to one replica in turn; many at once go to others as well."""

    def accepted() -> list[float]:
        return running.totals("accepted_requests_total")

    request: Any = chat("A key of its own", max_tokens=4, ignore_eos=True)
    metadata = [(AFFINITY_HEADER, affinity_key(request))]
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        stub: Any = ChatServiceStub(channel)
        before = accepted()
        for _ in range(10):
            await stub.CreateChatCompletion(request, metadata=metadata)
        alone = [now - then for now, then in zip(accepted(), before, strict=True)]
        assert sorted(alone) == [0, 0, 10]
        before = accepted()
        calls = (stub.CreateChatCompletion(request, metadata=metadata) for _ in range(60))
        await asyncio.gather(*calls)
    busy = [now - then for now, then in zip(accepted(), before, strict=True)]
    # Half as much again as the mean, or one more.
    assert max(busy) <= 31


async def test_rest_keys_reach_the_same_replica(running: Replicas) -> None:
    """What the gateway computes is what a caller of gRPC does."""
    text = "Both ways"
    request: Any = chat(text, max_tokens=4, ignore_eos=True)
    asked = {"model": request.model, "messages": [{"role": "user", "content": text}]}
    before = running.totals("accepted_requests_total")
    async with (
        grpc.aio.insecure_channel(running.grpc) as channel,
        httpx.AsyncClient(base_url=running.rest, timeout=60, trust_env=False) as http,
    ):
        metadata = [(AFFINITY_HEADER, affinity_key(request))]
        stub: Any = ChatServiceStub(channel)
        await stub.CreateChatCompletion(request, metadata=metadata)
        (await http.post("/v1/chat/completions", json=asked | {"max_tokens": 4})).raise_for_status()
    now = running.totals("accepted_requests_total")
    assert sorted(each - then for each, then in zip(now, before, strict=True)) == [0, 0, 2]


async def test_none_is_healthy(running: Replicas) -> None:
    """Callers get a 503 that says when to come back, and UNAVAILABLE, not a wait."""
    pids = [running.pid(f"service-{number}") for number in range(1, REPLICAS + 1)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.to_thread(until, lambda: running.serving() == 0, 15)
        async with httpx.AsyncClient(base_url=running.rest, timeout=20, trust_env=False) as http:
            reply = await http.post("/v1/chat/completions", json={"model": "m", "messages": []})
            assert reply.status_code == 503
            assert reply.headers["retry-after"] == "1"
            assert reply.json()["error"]["code"] == "UNAVAILABLE"
        async with callers(running) as asking:
            await asking.ask("grpc", "Hello")
        assert asking.outcomes == {"grpc UNAVAILABLE no healthy upstream": 1}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    await asyncio.to_thread(until, lambda: running.serving() == REPLICAS)
