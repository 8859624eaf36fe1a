from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import Mock

import grpc
import pytest

from rapport.service.interceptors.context import RequestContext
from rapport.service.interceptors.scope import ScopeInterceptor
from rapport.service.interceptors.slow_reader import SlowReaderGuard
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.fakes import ScriptedEngine, ends
from tests.service.requests import chat

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LIST = ListModelsRequest()


def id_in(metadata: grpc.aio.Metadata | None) -> str:
    assert metadata is not None
    return str(metadata["x-request-id"])


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


async def test_calls_that_are_reset_at_once() -> None:
    """A call that is cancelled before the next round of the event loop is counted, no more."""
    entered, on_reset = [], Mock()

    @asynccontextmanager
    async def scope(context: RequestContext) -> AsyncIterator[None]:
        entered.append(context.method)
        yield

    async def find(_: object) -> object:
        return grpc.unary_unary_rpc_method_handler(Mock())

    interceptor = ScopeInterceptor("/", [scope], SlowReaderGuard(1), on_reset)
    handler = await interceptor.intercept_service(find, Mock(method="/any"))
    rpc = Mock(invocation_metadata=tuple)
    call = asyncio.ensure_future(anext(handler.stream_stream(None, rpc)))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not entered
    on_reset.assert_called_once_with()
