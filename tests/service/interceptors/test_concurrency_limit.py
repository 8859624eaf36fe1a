from __future__ import annotations

import asyncio

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_status import rpc_status

from rapport.common.settings import load
from rapport.service import server
from rapport.service.config import ServiceSettings
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.fakes import ScriptedEngine, ends
from tests.service.requests import chat, health


@pytest.fixture(autouse=True)
def two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots and line come on top; the settings below have one of each."""
    monkeypatch.setattr(server, "SPARE_RPCS", 0)


@pytest.fixture
def settings() -> ServiceSettings:
    return load(ServiceSettings, ["--grpc-port", "0", "--slots", "1", "--max-waiting", "1"])


@pytest.fixture
async def busy(channel: grpc.aio.Channel, engine: ScriptedEngine) -> list[grpc.aio.UnaryUnaryCall]:
    """As many calls as are let in, which run until they are cancelled."""
    calls = [ChatServiceStub(channel).CreateChatCompletion(chat()) for _ in range(2)]
    while len(engine.requests) < len(calls):  # noqa: ASYNC110 - the fake has one event for all
        await asyncio.sleep(0.01)
    return calls


@pytest.mark.usefixtures("busy")
async def test_one_more_is_refused_with_a_time_to_come_back(channel: grpc.aio.Channel) -> None:
    """Whole or streamed, as whatever else is overloaded."""
    stub = ChatServiceStub(channel)
    for refused in (stub.CreateChatCompletion(chat()), stub.StreamChatCompletion(chat()).read()):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await refused
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(raised.value)  # type: ignore[arg-type]
        assert status is not None
        assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details)


@pytest.mark.usefixtures("busy")
async def test_health_and_models_are_still_told(channel: grpc.aio.Channel) -> None:
    """A probe that failed would take a busy server out of service."""
    assert await health(channel) == HealthCheckResponse.SERVING
    await ModelServiceStub(channel).ListModels(ListModelsRequest())


async def test_who_leaves_makes_room(
    channel: grpc.aio.Channel,
    engine: ScriptedEngine,
    busy: list[grpc.aio.UnaryUnaryCall],
) -> None:
    busy[0].cancel()
    await asyncio.wait_for(engine.cancelled.wait(), 1)
    engine.script = [ends(0)]
    await ChatServiceStub(channel).CreateChatCompletion(chat())
