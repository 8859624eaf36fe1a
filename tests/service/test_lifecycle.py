from __future__ import annotations

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_status import rpc_status

from rapport.v1.chat_pb2_grpc import ChatServiceStub
from service.lifecycle import Lifecycle
from tests.service.fakes import ScriptedEngine, served
from tests.service.requests import chat, health

NAMES = ("", "rapport.v1.ChatService", "rapport.v1.ModelService")


async def heard(channel: grpc.aio.Channel) -> set[int]:
    return {await health(channel, name) for name in NAMES}


async def refusal(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ChatServiceStub(channel).CreateChatCompletion(chat())
    return raised.value


async def test_loading(channel: grpc.aio.Channel) -> None:
    """While the model loads, probes hear NOT_SERVING and callers when to try again."""
    assert await heard(channel) == {HealthCheckResponse.NOT_SERVING}
    error = await refusal(channel)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "The model is loading"
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    retry = RetryInfo()
    assert status is not None
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.seconds == 1


@pytest.mark.usefixtures("engine")
async def test_serving(channel: grpc.aio.Channel) -> None:
    """Once the model is there, probes hear SERVING."""
    assert await heard(channel) == {HealthCheckResponse.SERVING}


async def test_closed(
    channel: grpc.aio.Channel, engine: ScriptedEngine, lifecycle: Lifecycle
) -> None:
    """Once closed, probes hear NOT_SERVING and callers why; it never opens again for probes."""
    await lifecycle.close("The server is shutting down")
    assert await heard(channel) == {HealthCheckResponse.NOT_SERVING}
    assert (await refusal(channel)).details() == "The server is shutting down"
    await lifecycle.open(served(engine))
    assert await heard(channel) == {HealthCheckResponse.NOT_SERVING}
