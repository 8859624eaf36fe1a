"""A channel with the service config balances over replicas by itself."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from rapport.service_config import SERVICE_CONFIG
from rapport.v1 import chat_pb2, chat_pb2_grpc, completion_pb2, model_pb2
from tests.service.requests import chat

SERVICE = chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Replica(chat_pb2_grpc.ChatServiceServicer):
    """Answers by its name, and counts what it is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: Counter[str] = Counter()
        self.refuses = False
        self.health = health.aio.HealthServicer()

    async def CreateChatCompletion(self, _request: Any, context: Any) -> Any:  # noqa: N802 - an RPC
        self.asked["unary"] += 1
        if self.refuses:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        return chat_pb2.CreateChatCompletionResponse(id=self.name)

    async def StreamChatCompletion(self, _request: Any, context: Any) -> Any:  # noqa: N802 - an RPC
        self.asked["stream"] += 1
        if self.refuses:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        yield chat_pb2.StreamChatCompletionResponse(id=self.name)


@asynccontextmanager
async def serving(replica: Replica) -> AsyncIterator[int]:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    chat_pb2_grpc.add_ChatServiceServicer_to_server(replica, server)
    add_HealthServicer_to_server(replica.health, server)
    await replica.health.set(SERVICE, SERVING)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@pytest.fixture
async def replicas() -> AsyncIterator[tuple[list[Replica], Any]]:
    """Three of them, and a stub of a channel over their addresses."""
    three = [Replica(name) for name in "abc"]
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(serving(replica)) for replica in three]
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        options = [("grpc.service_config", SERVICE_CONFIG)]
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options))
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        await until_answered_by(stub, set("abc"))
        yield three, stub


async def until_answered_by(stub: Any, names: set[str]) -> None:
    """Asks until six answers in a row come from these replicas, and from no others."""
    async with asyncio.timeout(20):
        while {(await stub.CreateChatCompletion(chat())).id for _ in range(6)} != names:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.02)


async def test_turns_and_health(replicas: tuple[list[Replica], Any]) -> None:
    """All are asked in turn; one that does not serve is left out until it does again."""
    (first, *_), stub = replicas
    await first.health.set(SERVICE, NOT_SERVING)
    await until_answered_by(stub, set("bc"))
    await first.health.set(SERVICE, SERVING)
    await until_answered_by(stub, set("abc"))


async def test_what_is_retried(replicas: tuple[list[Replica], Any]) -> None:
    """A whole answer is asked for again where one refuses; a stream is not."""
    (first, *others), stub = replicas
    first.refuses = True
    answers = [await stub.CreateChatCompletion(chat()) for _ in range(6)]
    assert {answer.id for answer in answers} == {"b", "c"}
    failed = 0
    for _ in range(6):
        try:
            _ = [piece async for piece in stub.StreamChatCompletion(chat())]
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - some of them fail
            failed += 1
    assert failed == first.asked["stream"] > 0
    assert sum(replica.asked["stream"] for replica in others) == 6 - failed


def test_it_names_rpcs_that_are_there() -> None:
    """All that it says may be retried exists, and none of it streams."""
    files = (chat_pb2, completion_pb2, model_pb2)
    services = {
        service.full_name: service
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
    }
    (policy,) = json.loads(SERVICE_CONFIG)["methodConfig"]
    for name in policy["name"]:
        service = services[name["service"]]
        methods = [service.methods_by_name[name["method"]]] if "method" in name else service.methods
        assert not any(method.server_streaming for method in methods)
