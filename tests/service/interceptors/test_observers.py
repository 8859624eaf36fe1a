from __future__ import annotations

import asyncio
import logging
import re

import grpc
import pytest

from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import chat

LIST = ListModelsRequest()


class TestAccessLog:
    async def logged(self, caplog: pytest.LogCaptureFixture) -> str:
        for _ in range(100):
            if lines := [r.getMessage() for r in caplog.records if r.name == "rapport.access"]:
                return lines[0]
            await asyncio.sleep(0.01)
        raise AssertionError("nothing was logged")

    async def test_line(
        self,
        channel: grpc.aio.Channel,
        engine: ScriptedEngine,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A call leaves a line with method, code, time and id, and nothing that was said."""
        caplog.set_level(logging.INFO)
        engine.script = [says(0, "answer"), ends(0)]
        metadata = (("x-request-id", "abc"), ("authorization", "Bearer sesame"))
        await ChatServiceStub(channel).CreateChatCompletion(chat("question"), metadata=metadata)
        line = await self.logged(caplog)
        assert re.fullmatch(r"/rapport.v1.ChatService/CreateChatCompletion OK \d+\.\d ms abc", line)
        assert not any(word in caplog.text for word in ("question", "answer", "sesame"))

    async def test_failed(
        self, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The line has the status that the caller got."""
        caplog.set_level(logging.INFO)
        with pytest.raises(grpc.aio.AioRpcError):
            await ModelServiceStub(channel).ListModels(LIST)
        assert " UNAVAILABLE " in await self.logged(caplog)

    @pytest.mark.parametrize(("timeout", "code"), [(None, "CANCELLED"), (0.1, "DEADLINE_EXCEEDED")])
    async def test_left(
        self,
        channel: grpc.aio.Channel,
        engine: ScriptedEngine,
        caplog: pytest.LogCaptureFixture,
        timeout: float | None,  # noqa: ASYNC109 - the call's
        code: str,
    ) -> None:
        """A caller that left and a deadline that passed are told apart."""
        caplog.set_level(logging.INFO)
        engine.script = [says(0, "A")]
        call = ChatServiceStub(channel).StreamChatCompletion(chat(), timeout=timeout)
        await call.read()
        if timeout is None:
            call.cancel()
        assert f" {code} " in await self.logged(caplog)
        await asyncio.wait_for(engine.cancelled.wait(), 1)
