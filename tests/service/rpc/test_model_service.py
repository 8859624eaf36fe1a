from __future__ import annotations

from dataclasses import replace

import grpc
import pytest

from rapport.service.lifecycle import Lifecycle
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import GetModelRequest, ListModelsRequest, Model
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.fakes import CONTEXT, ScriptedEngine, ends, served
from tests.service.requests import MODEL, chat

EXPECTED = Model(
    id=MODEL,
    object="model",
    created=1700000000,
    owned_by="tests",
    kind="HF_BASE_MODEL",
    supports_chat=True,
    supports_tools=True,
    context_length=CONTEXT,
)


@pytest.mark.usefixtures("engine")
async def test_list(channel: grpc.aio.Channel) -> None:
    """The list has the model that is served."""
    listed = await ModelServiceStub(channel).ListModels(ListModelsRequest())
    assert (listed.object, list(listed.data)) == ("list", [EXPECTED])


@pytest.mark.usefixtures("engine")
async def test_get(channel: grpc.aio.Channel) -> None:
    """The model is found by its id."""
    got = await ModelServiceStub(channel).GetModel(GetModelRequest(model=MODEL))
    assert got.model == EXPECTED


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", ["other", ""])
async def test_unknown(channel: grpc.aio.Channel, name: str) -> None:
    """Another model, or none, is not found, and those that are served are named."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ModelServiceStub(channel).GetModel(GetModelRequest(model=name))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    text = f"Model not found, inaccessible, and/or not deployed; served: {MODEL}"
    assert raised.value.details() == text


async def test_aliases(
    channel: grpc.aio.Channel, engine: ScriptedEngine, lifecycle: Lifecycle
) -> None:
    """Other names are listed, found, and answered as asked; another model's 404 has them all."""
    lifecycle.start_serving(replace(served(engine), aliases=("gpt-4o",)))
    listed = await ModelServiceStub(channel).ListModels(ListModelsRequest())
    assert [model.id for model in listed.data] == [MODEL, "gpt-4o"]
    got = await ModelServiceStub(channel).GetModel(GetModelRequest(model="gpt-4o"))
    assert got.model.id == "gpt-4o"
    create = ChatServiceStub(channel).CreateChatCompletion
    engine.script = [ends(0)]
    assert (await create(chat("Hi", model="gpt-4o"))).model == "gpt-4o"
    with pytest.raises(grpc.aio.AioRpcError, match=f"served: {MODEL}, gpt-4o"):
        await create(chat("Hi", model="gpt-4", n=0))


async def test_loading(channel: grpc.aio.Channel) -> None:
    """While the model loads there is nothing to list yet."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ModelServiceStub(channel).ListModels(ListModelsRequest())
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
