"""The status, reported by a real server."""

from __future__ import annotations

import json

import grpc
import pytest

from rapport.service.config import ServiceSettings
from rapport.service.engine.engine import Engine
from rapport.service.lifecycle import Lifecycle, State
from rapport.v1 import status_pb2 as protos
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.status_pb2_grpc import StatusServiceStub
from tests.contract.callers import unpacked
from tests.service.fakes import CONTEXT, ScriptedEngine
from tests.service.interceptors.keyed import refusal, shown
from tests.service.requests import MODEL, chat
from tests.service.rpc.test_reflection import grpcurl

ASK = protos.GetStatusRequest()


async def status(channel: grpc.aio.Channel) -> protos.GetStatusResponse:
    return await StatusServiceStub(channel).GetStatus(ASK)


async def test_loading(channel: grpc.aio.Channel) -> None:
    """While the model loads, the state says so and no model is listed."""
    response = await status(channel)
    assert response.state == protos.STATE_LOADING
    assert response.version
    assert response.uptime_seconds > 0
    assert not response.models
    assert not response.HasField("occupancy")


@pytest.mark.usefixtures("engine")
async def test_serving(channel: grpc.aio.Channel) -> None:
    """The model is named, with how and where it runs."""
    response = await status(channel)
    assert response.state == protos.STATE_SERVING
    model = protos.ServedModel(id=MODEL, precision="int4", provider="cpu", context_length=CONTEXT)
    assert list(response.models) == [model]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("state", "expected"),
    [(State.DRAINING, protos.STATE_DRAINING), (State.DEAD, protos.STATE_DEAD)],
)
async def test_closed(
    channel: grpc.aio.Channel,
    lifecycle: Lifecycle,
    state: State,
    expected: protos.State.ValueType,
) -> None:
    """When no request is taken any more, the status still tells of the engine."""
    lifecycle.stop_admitting("Closed", state)
    response = await status(channel)
    assert response.state == expected
    assert response.models[0].id == MODEL
    assert response.occupancy.slots == 4


async def test_occupancy(channel: grpc.aio.Channel, real_engine: Engine) -> None:
    """A running answer has its slot and its tokens; afterwards it is one that finished."""
    request = chat("Count.", max_tokens=30, ignore_eos=True)
    stream = aiter(ChatServiceStub(channel).StreamChatCompletion(request))
    await anext(stream)
    now = (await status(channel)).occupancy
    assert (now.slots, now.slots_used, now.waiting_requests) == (4, 1, 0)
    assert 0 < now.kv_tokens < now.kv_reserved_tokens <= now.kv_budget_tokens
    assert now.kv_bytes == now.kv_tokens * 46_080
    async for _ in stream:
        pass
    response = await status(channel)
    assert (response.requests.accepted, response.requests.finished) == (1, 1)
    assert (response.occupancy.slots_used, response.occupancy.kv_tokens) == (0, 0)
    kept = response.prefix_cache
    assert (kept.hits, kept.misses) == (0, 1)
    assert 0 < kept.bytes <= kept.budget_bytes
    assert real_engine.occupancy().slots_used == 0


@pytest.mark.usefixtures("engine")
async def test_grpcurl(address: str) -> None:
    """An operator needs no protos at hand."""
    response = json.loads(await grpcurl(address, "rapport.v1.StatusService/GetStatus"))
    assert response["state"] == "STATE_SERVING"


class TestKeys:
    @pytest.fixture
    def settings(self, admin_settings: ServiceSettings) -> ServiceSettings:
        return admin_settings

    async def test_a_key_is_needed(self, channel: grpc.aio.Channel, engine: ScriptedEngine) -> None:
        """Where keys are asked for, the status asks for one of an administrator."""
        stub = StatusServiceStub(channel)
        assert (await refusal(stub.GetStatus(ASK))).code() is grpc.StatusCode.UNAUTHENTICATED
        for key in ("plain", "of-settings"):
            error = await refusal(stub.GetStatus(ASK, **shown(key)))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert unpacked(error)[0].reason == "ADMIN_KEY_REQUIRED"
        answer = await stub.GetStatus(ASK, **shown("admin"))
        assert answer.models[0].id == engine.spec.id
