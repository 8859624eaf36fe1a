from __future__ import annotations

import asyncio
import logging
import re

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.errors import StepFailedError
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import chat, health

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LIST = ListModelsRequest()
CHAT = "/rapport.v1.ChatService"
METHODS = [f"{CHAT}/CreateChatCompletion", f"{CHAT}/StreamChatCompletion"]
GARBAGE = b"\x0a\xff\xff"


def id_in(metadata: grpc.aio.Metadata | None) -> str:
    assert metadata is not None
    return str(metadata["x-request-id"])


def reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    told: str = info.reason
    return told


class TestRequestId:
    @pytest.mark.usefixtures("engine")
    async def test_given_id_comes_back(self, channel: grpc.aio.Channel) -> None:
        """A caller finds its own id in the headers."""
        call = ModelServiceStub(channel).ListModels(LIST, metadata=(("x-request-id", "abc-1"),))
        assert id_in(await call.initial_metadata()) == "abc-1"

    @pytest.mark.usefixtures("engine")
    @pytest.mark.parametrize("given", ["", "with space", "x" * 129])
    async def test_id_is_made(self, channel: grpc.aio.Channel, given: str) -> None:
        """Without an id, or with one unfit for a log, the call gets a new one."""
        call = ModelServiceStub(channel).ListModels(LIST, metadata=(("x-request-id", given),))
        assert UUID.fullmatch(id_in(await call.initial_metadata()))

    async def test_stream_has_id(self, channel: grpc.aio.Channel, engine: ScriptedEngine) -> None:
        """Streams have an id as well."""
        engine.script = [ends(0)]
        call = ChatServiceStub(channel).StreamChatCompletion(chat())
        assert UUID.fullmatch(id_in(await call.initial_metadata()))
        assert len([piece async for piece in call]) == 2

    async def test_failed_call_has_id_in_trailers_alone(self, channel: grpc.aio.Channel) -> None:
        """A call that fails at once has no headers, so that proxies may try it again."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ModelServiceStub(channel).ListModels(LIST, metadata=(("x-request-id", "a"),))
        assert id_in(raised.value.trailing_metadata()) == "a"
        assert "x-request-id" not in (raised.value.initial_metadata() or ())


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("method", METHODS)
async def test_no_message(channel: grpc.aio.Channel, method: str) -> None:
    """Bytes that are no message are the caller's mistake."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_stream(method)(GARBAGE).read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "The request is not the message that the RPC takes"
    assert reason(raised.value) == "UNREADABLE"


class TestKeys:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return load(ServiceSettings, ["--grpc-port", "0", "--api-keys", "first,second"])

    @pytest.mark.usefixtures("engine")
    @pytest.mark.parametrize("header", ["Bearer first", "bearer second"])
    async def test_good_key(self, channel: grpc.aio.Channel, header: str) -> None:
        """Any of the keys lets a caller in."""
        await ModelServiceStub(channel).ListModels(LIST, metadata=(("authorization", header),))

    @pytest.mark.usefixtures("engine")
    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer third", "Basic first", "first"])
    async def test_bad_key(self, channel: grpc.aio.Channel, header: str | None) -> None:
        """No key, a wrong key and a wrong scheme are refused with one text."""
        metadata = () if header is None else (("authorization", header),)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ModelServiceStub(channel).ListModels(LIST, metadata=metadata)
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert raised.value.details() == "The API key you provided is invalid."

    @pytest.mark.usefixtures("engine")
    async def test_no_key_and_no_message(self, channel: grpc.aio.Channel) -> None:
        """Nothing is parsed of who has no key."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(METHODS[0])(GARBAGE)
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_the_key_is_part_of_the_tenant(
        self, channel: grpc.aio.Channel, engine: ScriptedEngine
    ) -> None:
        """Users of the same name are two tenants with two keys, and no tenant's name is a key."""
        engine.script = (ends(0),)
        for key in ("first", "second", "first"):
            metadata = (("authorization", f"Bearer {key}"),)
            await ChatServiceStub(channel).CreateChatCompletion(chat(user="ann"), metadata=metadata)
        one, other, again = [request.tenant for request in engine.requests]
        assert one == again != other
        assert "first" not in one.key

    async def test_stream_needs_key(
        self, channel: grpc.aio.Channel, engine: ScriptedEngine
    ) -> None:
        """A stream without a key ends before anything is generated."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ChatServiceStub(channel).StreamChatCompletion(chat()).read()
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert engine.requests == []

    async def test_health_needs_no_key(self, channel: grpc.aio.Channel) -> None:
        """Probes have no key."""
        assert await health(channel)


class TestErrors:
    async def test_unexpected(
        self,
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
        assert reason(raised.value) == "INTERNAL"
        assert "request abc" in caplog.text
        assert "KeyError: 'secret'" in caplog.text

    async def test_failure_in_mid_stream(
        self, channel: grpc.aio.Channel, engine: ScriptedEngine
    ) -> None:
        """What came before a failure is sent, then the failure's status."""
        engine.script, engine.error = [says(0, "A")], StepFailedError("boom")
        call = aiter(ChatServiceStub(channel).StreamChatCompletion(chat()))
        pieces = [await anext(call), await anext(call)]
        assert pieces[1].choices[0].delta.content == "A"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await anext(call)
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        assert reason(raised.value) == "GENERATION_FAILED"


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
