from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

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
from tests.service.interceptors.keyed import refusal, shown
from tests.service.requests import chat, health


@pytest.fixture(autouse=True)
def two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots and line come on top; the settings below have one of each."""
    monkeypatch.setattr(server, "SPARE_RPCS", 0)
    monkeypatch.setattr(server, "OTHER_PLACES", 8)


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


class TestKeys:
    """The second of two keys comes when the first has all that it may have."""

    @pytest.fixture
    def settings(self, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
        monkeypatch.setenv("RAPPORT_API_KEYS", "first,second")
        flags = ["--slots", "2", "--max-waiting", "2"]
        return load(ServiceSettings, ["--grpc-port", "0", *flags])

    async def test_one_leaves_room_for_another(
        self, channel: grpc.aio.Channel, engine: ScriptedEngine
    ) -> None:
        """Of eight places four are for one alone, and half of what is left for the next."""
        stub = ChatServiceStub(channel)
        first = [stub.CreateChatCompletion(chat(), **shown("first")) for _ in range(4)]
        while len(engine.requests) < 4:  # noqa: ASYNC110 - the fake has one event for all
            await asyncio.sleep(0.01)
        assert (await refusal(stub.CreateChatCompletion(chat(), **shown("first")))).details() == (
            "too many requests are under way"
        )
        engine.script = [ends(0)]
        await stub.CreateChatCompletion(chat(), **shown("second"))
        for call in first:
            call.cancel()

    @pytest.mark.usefixtures("engine")
    async def test_calls_without_a_request_are_limited(self, channel: grpc.aio.Channel) -> None:
        """They take places of their key from when they begin, whatever they call."""
        for path in ("ChatService/Tokenize", "ModelService/ListModels"):
            begin = channel.stream_stream(f"/rapport.v1.{path}")
            held = [begin(never(), **shown("first")) for _ in range(5)]
            ended, _ = await asyncio.wait(
                [asyncio.ensure_future(call.code()) for call in held],
                return_when=asyncio.FIRST_COMPLETED,
            )
            assert [each.result() for each in ended] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
            for call in held:
                call.cancel()


async def never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""
