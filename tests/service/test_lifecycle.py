from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_status import rpc_status

from rapport.service.lifecycle import Lifecycle
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.service.fakes import ScriptedEngine, ends, served
from tests.service.requests import chat, health

NAMES = ("", "rapport.v1.ChatService", "rapport.v1.CompletionService", "rapport.v1.ModelService")
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


async def heard(channel: grpc.aio.Channel) -> set[int]:
    """What readiness probes hear."""
    return {await health(channel, name) for name in NAMES}


async def alive(channel: grpc.aio.Channel) -> bool:
    """What liveness probes hear."""
    return await health(channel, "liveness") == SERVING


async def refusal(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ChatServiceStub(channel).CreateChatCompletion(chat())
    return raised.value


async def test_loading(channel: grpc.aio.Channel) -> None:
    """While the model loads, probes hear NOT_SERVING and callers when to try again."""
    assert await heard(channel) == {NOT_SERVING}
    assert await alive(channel)
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
    assert await heard(channel) == {SERVING}
    assert await alive(channel)


async def test_leaving(
    channel: grpc.aio.Channel, engine: ScriptedEngine, lifecycle: Lifecycle
) -> None:
    """Before it closes, probes hear NOT_SERVING while those that come are still served."""
    engine.script = [ends(0, "ok")]
    lifecycle.fail_readiness()
    assert await heard(channel) == {NOT_SERVING}
    assert await alive(channel)
    answer = await ChatServiceStub(channel).CreateChatCompletion(chat())
    assert answer.choices[0].message.content == "ok"


async def test_watched(channel: grpc.aio.Channel, lifecycle: Lifecycle) -> None:
    """Who watches health hears of each change, by each name."""
    stub: Any = HealthStub(channel)  # its types know no asyncio
    watches = {name: stub.Watch(HealthCheckRequest(service=name)) for name in (*NAMES, "liveness")}

    async def states() -> list[int]:
        return [(await watch.read()).status for watch in watches.values()]

    assert await states() == [NOT_SERVING] * 4 + [SERVING]
    lifecycle.start_serving(served(ScriptedEngine()))
    assert [(await watches[name].read()).status for name in NAMES] == [SERVING] * 4
    lifecycle.mark_dead()
    assert await states() == [NOT_SERVING] * 5


@pytest.mark.usefixtures("engine")
async def test_dead(channel: grpc.aio.Channel, lifecycle: Lifecycle) -> None:
    """Once the engine is dead, liveness probes hear of it, too, and callers get a retryable no."""
    lifecycle.mark_dead()
    assert await heard(channel) == {NOT_SERVING}
    assert not await alive(channel)
    error = await refusal(channel)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "The engine died")


async def test_closed(
    channel: grpc.aio.Channel, engine: ScriptedEngine, lifecycle: Lifecycle
) -> None:
    """Once closed, probes hear NOT_SERVING and callers why; it never opens again."""
    lifecycle.stop_admitting("The server is shutting down")
    assert await heard(channel) == {NOT_SERVING}
    assert await alive(channel)
    assert (await refusal(channel)).details() == "The server is shutting down"
    lifecycle.start_serving(served(engine))
    assert await heard(channel) == {NOT_SERVING}
    assert (await refusal(channel)).details() == "The server is shutting down"
