from __future__ import annotations

import grpc
import pytest

from rapport.service.engine.errors import StepFailedError
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.contract.callers import unpacked
from tests.service.fakes import ScriptedEngine, says
from tests.service.requests import chat


async def test_unexpected(
    channel: grpc.aio.Channel,
    engine: ScriptedEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bug is told blandly, and logged with its traceback and the request's id."""
    engine.error = KeyError("secret")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ChatServiceStub(channel).CreateChatCompletion(
            chat(), metadata=(("x-request-id", "abc"),)
        )
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert raised.value.details() == "Internal error"
    assert unpacked(raised.value)[0].reason == "INTERNAL"
    assert "request abc" in caplog.text
    assert "KeyError: 'secret'" in caplog.text


async def test_failure_in_mid_stream(channel: grpc.aio.Channel, engine: ScriptedEngine) -> None:
    """What came before a failure is sent, then the failure's status."""
    engine.script, engine.error = [says(0, "A")], StepFailedError("boom")
    call = aiter(ChatServiceStub(channel).StreamChatCompletion(chat()))
    pieces = [await anext(call), await anext(call)]
    assert pieces[1].choices[0].delta.content == "A"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await anext(call)
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert unpacked(raised.value)[0].reason == "GENERATION_FAILED"
