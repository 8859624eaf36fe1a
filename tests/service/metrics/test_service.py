"""ServiceMetrics of a server in this process, in front of a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.errors import Bound, OverloadedError, StepFailedError
from rapport.service.engine.generation import MAX_MERGED_TOKENS
from rapport.service.lifecycle import Lifecycle, State
from rapport.service.metrics.service import ServiceMetrics
from rapport.service.server import Server
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import chat

NEVER = "not there"
RPCS = 2


@pytest.fixture(autouse=True)
def _two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots and line come on top; the settings below have one of each."""
    monkeypatch.setattr("rapport.service.server.SPARE_RPCS", 0)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    monkeypatch.setenv("RAPPORT_API_KEYS", "first,second")
    narrow = ["--slots", "1", "--max-waiting", "1", "--reader-timeout", "0.4"]
    return load(ServiceSettings, ["--grpc-port", "0", *narrow])


@pytest.fixture
def metrics(lifecycle: Lifecycle) -> ServiceMetrics:
    return ServiceMetrics(lifecycle)


@pytest.fixture
async def address(
    settings: ServiceSettings, lifecycle: Lifecycle, metrics: ServiceMetrics
) -> AsyncIterator[str]:
    server = Server(settings, lifecycle, metrics.observe)
    yield f"127.0.0.1:{await server.listen(metrics.certificates)}"
    await server.stop(None)


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> ChatServiceStub:
    return ChatServiceStub(channel)


def value(metrics: ServiceMetrics, name: str, **labels: str) -> float | str:
    found = metrics.registry.get_sample_value(f"rapport_{name}", labels)
    return NEVER if found is None else found


async def settled(metrics: ServiceMetrics, expected: float, name: str, **labels: str) -> None:
    """The end of a call is counted a moment after its caller sees it."""
    async with asyncio.timeout(5):
        while value(metrics, name, **labels) != expected:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


def key(name: str) -> Any:
    return (("authorization", f"Bearer {name}"),)


def outcome(method: str, code: str) -> dict[str, str]:
    return {"method": method, "code": code}


def overloaded(metrics: ServiceMetrics) -> dict[Bound, float | str]:
    return {bound: value(metrics, "overloaded_requests_total", bound=bound) for bound in Bound}


async def test_loading(metrics: ServiceMetrics) -> None:
    """Before the model is loaded only its state is reported."""
    assert value(metrics, "up") == 0
    assert value(metrics, "state", state="loading") == 1
    assert value(metrics, "slots") == NEVER


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("state", [State.DRAINING, State.DEAD])
async def test_states(metrics: ServiceMetrics, lifecycle: Lifecycle, state: State) -> None:
    """The one that is so is 1, the others are 0; what is known of the engine stays."""
    assert value(metrics, "up") == value(metrics, "state", state="serving") == 1
    lifecycle.stop_admitting("Closed", state)
    states = {each: value(metrics, "state", state=each.name.lower()) for each in State}
    assert states == {each: float(each is state) for each in State}
    assert value(metrics, "up") == 0
    assert value(metrics, "slots") == 4


async def test_answered(
    metrics: ServiceMetrics, stub: ChatServiceStub, engine: ScriptedEngine
) -> None:
    """An answer counts once in each metric."""
    for _ in range(3):
        engine.script = [says(0, "a", tokens=2), ends(0)]
        await stub.CreateChatCompletion(chat("one two"), metadata=key("first"))
    method = {"method": "CreateChatCompletion"}
    await settled(metrics, 3, "requests_total", code="OK", **method)
    assert value(metrics, "request_duration_seconds_count", **method) == 3
    assert value(metrics, "time_to_first_token_seconds_count") == 3
    assert value(metrics, "inter_token_latency_seconds_count") == 3
    assert value(metrics, "refused_requests_total", reason="INVALID_REQUEST") == NEVER


async def test_keys(metrics: ServiceMetrics, stub: ChatServiceStub, engine: ScriptedEngine) -> None:
    """Each key has its requests and tokens, under a name that is not the key."""
    for name in ("first", "first", "second"):
        engine.script = [says(0, "a", tokens=2), ends(0)]
        await stub.CreateChatCompletion(chat("one two"), metadata=key(name))
    await settled(metrics, 3, "requests_total", **outcome("CreateChatCompletion", "OK"))
    families = {f.name: f for f in metrics.registry.collect()}
    requests = sorted(sample.value for sample in families["rapport_key_requests"].samples)
    assert requests == [1, 2]
    tokens = families["rapport_key_tokens"].samples
    assert sorted((s.labels["kind"], s.value) for s in tokens) == [
        ("completion", 3),
        ("completion", 6),
        ("prompt", 2),
        ("prompt", 4),
    ]
    assert not {"first", "second"} & {sample.labels["key"] for sample in tokens}


@pytest.mark.usefixtures("engine")
async def test_wrong_keys_make_no_series(metrics: ServiceMetrics, stub: ChatServiceStub) -> None:
    """Who is not let in leaves a reason and no name."""
    for guess in ("a", "b", "c"):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.CreateChatCompletion(chat(), metadata=key(guess))
    await settled(metrics, 3, "refused_requests_total", reason="UNAUTHENTICATED")
    families = {f.name: f for f in metrics.registry.collect()}
    assert families["rapport_key_requests"].samples == []


async def test_refused(
    metrics: ServiceMetrics, stub: ChatServiceStub, engine: ScriptedEngine
) -> None:
    """What asked the engine for nothing is counted by its reason; durations count it as well."""
    engine.refusal = OverloadedError("full", Bound.REQUESTS, retry_after=1)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.CreateChatCompletion(chat(), metadata=key("first"))
    engine.refusal = None
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.CreateChatCompletion(chat(max_tokens=-1), metadata=key("first"))
    await settled(metrics, 1, "refused_requests_total", reason="OVERLOADED")
    await settled(metrics, 1, "refused_requests_total", reason="INVALID_REQUEST")
    method = "CreateChatCompletion"
    assert value(metrics, "requests_total", **outcome(method, "RESOURCE_EXHAUSTED")) == 1
    assert value(metrics, "requests_total", **outcome(method, "INVALID_ARGUMENT")) == 1
    assert value(metrics, "time_to_first_token_seconds_count") == 0


@pytest.mark.parametrize("reached", Bound)
async def test_overloaded(
    metrics: ServiceMetrics, stub: ChatServiceStub, engine: ScriptedEngine, reached: Bound
) -> None:
    """A refusal for overload counts for the bound that was reached; the others tell of 0."""
    engine.refusal = OverloadedError("full", reached, retry_after=1)
    metadata = key("first")
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.CreateChatCompletion(chat(), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.StreamChatCompletion(chat(), metadata=metadata).read()
    await settled(metrics, 2, "refused_requests_total", reason="OVERLOADED")
    assert overloaded(metrics) == dict.fromkeys(Bound, 0) | {reached: 2}


async def test_too_many_rpcs(
    metrics: ServiceMetrics, stub: ChatServiceStub, engine: ScriptedEngine
) -> None:
    """The bound on RPCs under way is told apart from the engine's."""
    running = [stub.CreateChatCompletion(chat(), metadata=key("first")) for _ in range(RPCS)]
    while len(engine.requests) < RPCS:  # noqa: ASYNC110 - the fake has one event for all
        await asyncio.sleep(0.01)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.CreateChatCompletion(chat(), metadata=key("first"))
    await settled(metrics, 1, "overloaded_requests_total", bound=Bound.RPCS)
    assert overloaded(metrics) == dict.fromkeys(Bound, 0) | {Bound.RPCS: 1}
    for call in running:
        call.cancel()


@pytest.mark.usefixtures("engine")
async def test_other_refusals_are_no_overload(
    metrics: ServiceMetrics, stub: ChatServiceStub
) -> None:
    """What is wrong with a request is no bound of the service's."""
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.CreateChatCompletion(chat(max_tokens=-1), metadata=key("first"))
    await settled(metrics, 1, "refused_requests_total", reason="INVALID_REQUEST")
    assert overloaded(metrics) == dict.fromkeys(Bound, 0)


async def test_stuck_readers(metrics: ServiceMetrics, address: str, engine: ScriptedEngine) -> None:
    """Who is given up for reading nothing is counted; who leaves is not."""
    assert value(metrics, "stuck_readers_total") == 0
    engine.script = [says(0, "x" * 20_000, tokens=MAX_MERGED_TOKENS) for _ in range(50)]
    narrow = [("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(address, narrow) as channel:
        call = ChatServiceStub(channel).StreamChatCompletion(chat(), metadata=key("first"))
        await call.read()
        await settled(metrics, 1, "stuck_readers_total")
        await settled(metrics, 1, "requests_total", **outcome("StreamChatCompletion", "ABORTED"))
        engine.script = [says(0, "A")]
        left = ChatServiceStub(channel).StreamChatCompletion(chat(), metadata=key("first"))
        await left.read()
        left.cancel()
        await settled(metrics, 1, "requests_total", **outcome("StreamChatCompletion", "CANCELLED"))
    assert value(metrics, "stuck_readers_total") == 1


async def test_failed(
    metrics: ServiceMetrics, stub: ChatServiceStub, engine: ScriptedEngine
) -> None:
    """What the engine failed in was not refused."""
    engine.script, engine.error = [says(0, "a")], StepFailedError("boom")
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.CreateChatCompletion(chat(), metadata=key("first"))
    await settled(metrics, 1, "requests_total", **outcome("CreateChatCompletion", "INTERNAL"))
    assert value(metrics, "refused_requests_total", reason="GENERATION_FAILED") == NEVER


@pytest.mark.parametrize(("timeout", "code"), [(None, "CANCELLED"), (1, "DEADLINE_EXCEEDED")])
async def test_left(
    metrics: ServiceMetrics,
    stub: ChatServiceStub,
    engine: ScriptedEngine,
    timeout: float | None,  # noqa: ASYNC109 - the call's
    code: str,
) -> None:
    """A caller that left and a deadline that passed are told apart, and were not refused."""
    engine.script = [says(0, "A")]
    call = stub.StreamChatCompletion(chat(), timeout=timeout, metadata=key("first"))
    await call.read()
    if timeout is None:
        call.cancel()
    await settled(metrics, 1, "requests_total", **outcome("StreamChatCompletion", code))
    families = {f.name: f for f in metrics.registry.collect()}
    assert families["rapport_refused_requests"].samples == []


@pytest.mark.usefixtures("engine")
async def test_other_rpcs(metrics: ServiceMetrics, channel: grpc.aio.Channel) -> None:
    """RPCs that generate nothing are counted; those of others, such as health, are not."""
    await ModelServiceStub(channel).ListModels(ListModelsRequest(), metadata=key("first"))
    unknown = channel.unary_unary("/rapport.v1.ChatService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError):
        await unknown(b"")
    families = {f.name: f for f in metrics.registry.collect()}
    requests = families["rapport_requests"].samples
    assert [(s.labels["method"], s.value) for s in requests] == [("ListModels", 1)]
