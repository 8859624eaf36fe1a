from __future__ import annotations

import asyncio
from threading import get_ident
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from rapport.common.fair_threads import FairThreads
from rapport.service.engine.errors import (
    Bound,
    EngineError,
    OverloadedError,
    UnserviceableRequestError,
)
from rapport.service.errors import InvalidRequestError
from rapport.service.interceptors.context import set_current
from rapport.service.lifecycle import Lifecycle
from rapport.service.request.generation import Defaults
from rapport.service.rpc import chat_service as module
from rapport.service.rpc.chat_service import ChatService
from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
    FinishReason,
    StreamChatCompletionResponse,
    StreamOptions,
)
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.service.fakes import CONTEXT, ScriptedEngine, WordEncoder, ends, request_context, says
from tests.service.requests import chat

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub

# Pieces of a hundred bytes: many times what flow control lets through unread.
LEFT = 10_000

Pieces = list[StreamChatCompletionResponse]


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> ChatServiceAsyncStub:
    return ChatServiceStub(channel)


async def streamed(stub: ChatServiceAsyncStub, request: CreateChatCompletionRequest) -> Pieces:
    return [piece async for piece in stub.StreamChatCompletion(request)]


async def test_whole(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """The unary RPC gives all that was generated, and the model as the request named it."""
    engine.script = [says(0, "Hello"), ends(0, "!")]
    whole = await stub.CreateChatCompletion(chat("one two three"))
    assert whole.choices[0].message.content == "Hello!"
    assert whole.choices[0].finish_reason == FinishReason.FINISH_REASON_STOP
    assert whole.model == chat().model
    assert whole.usage.prompt_tokens == 3


async def test_stream(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """The stream gives role, text, reason, and usage at the end."""
    engine.script = [says(0, "Hello"), ends(0)]
    pieces = await streamed(stub, chat())
    assert "".join(piece.choices[0].delta.content for piece in pieces) == "Hello"
    assert pieces[-1].HasField("usage")


@pytest.mark.parametrize("apart", [True, False])
async def test_include_usage(
    stub: ChatServiceAsyncStub, engine: ScriptedEngine, apart: bool
) -> None:
    """include_usage true puts usage on a piece of its own; false leaves it for the gateway."""
    engine.script = [ends(0)]
    pieces = await streamed(stub, chat(stream_options=StreamOptions(include_usage=apart)))
    assert pieces[-1].HasField("usage")
    assert len(pieces[-1].choices) == (0 if apart else 1)


async def test_engine_gets_the_request(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """What the engine is asked for is made of the request and its prompt."""
    engine.script = [ends(0), ends(1)]
    await stub.CreateChatCompletion(chat("one two", n=2, temperature=0.5))
    (request,) = engine.requests
    assert (request.prompt, request.n, request.sampling.temperature) == ((0, 1), 2, 0.5)
    assert request.max_tokens == CONTEXT - 2


async def test_bad_request_never_reaches_the_engine(
    stub: ChatServiceAsyncStub, engine: ScriptedEngine
) -> None:
    """Both RPCs check the request before anything else."""
    for call in (stub.CreateChatCompletion(chat(n=0)), stub.StreamChatCompletion(chat(n=0)).read()):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert engine.requests == []


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (
            OverloadedError("full", Bound.REQUESTS, retry_after=1),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        (UnserviceableRequestError("too much"), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_engine_refuses(
    stub: ChatServiceAsyncStub, engine: ScriptedEngine, refusal: EngineError, code: grpc.StatusCode
) -> None:
    """What the engine refuses, the caller hears of before any piece."""
    engine.refusal = refusal
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.StreamChatCompletion(chat()).read()
    assert raised.value.code() is code


async def test_cancelled_unary(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """A caller that gives up a unary call stops the generation."""
    call = stub.CreateChatCompletion(chat())
    await asyncio.wait_for(engine.asked.wait(), 1)
    call.cancel()
    await asyncio.wait_for(engine.cancelled.wait(), 1)


async def test_cancelled_stream(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """A caller that leaves a stream stops the generation."""
    engine.script = [says(0, "A")]
    call = stub.StreamChatCompletion(chat())
    await call.read()
    call.cancel()
    await asyncio.wait_for(engine.cancelled.wait(), 1)


async def test_deadline(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """A deadline that passes stops the generation."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.CreateChatCompletion(chat(), timeout=0.1)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(engine.cancelled.wait(), 1)


async def test_closed_stream(lifecycle: Lifecycle, engine: ScriptedEngine) -> None:
    """A stream that gRPC closes instead of cancelling stops the generation as well."""
    engine.script = [says(0, "A")]
    rpc: Any = None
    set_current(request_context())
    stream = ChatService(lifecycle, Defaults(), FairThreads(1, "test")).StreamChatCompletion(
        chat(), rpc
    )
    await anext(stream)
    await stream.aclose()
    assert engine.cancelled.is_set()


async def test_a_caller_that_does_not_read_holds_up_nobody(
    stub: ChatServiceAsyncStub, engine: ScriptedEngine
) -> None:
    """What a caller leaves waits as few long pieces; others on its connection are answered."""
    slow = stub.StreamChatCompletion(chat())
    await asyncio.wait_for(engine.asked.wait(), 5)
    (generation,) = engine.generations
    said = [f"{number:099} " for number in range(LEFT)]
    for text in said:
        generation.add(says(0, text))
        await asyncio.sleep(0)
    engine.script = [says(0, "At once"), ends(0)]
    assert "".join(texts(await streamed(stub, chat()))) == "At once"
    generation.add(ends(0))
    pieces = [piece async for piece in slow]
    assert "".join(texts(pieces)) == "".join(said)
    assert len(pieces) < LEFT / 2
    assert pieces[-1].usage.completion_tokens == LEFT + 1


def texts(pieces: Pieces) -> list[str]:
    return [choice.delta.content for piece in pieces for choice in piece.choices]


async def test_long_requests_do_not_hold_up_the_loop(
    stub: ChatServiceAsyncStub, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes time, checking and reading a request, is done in other threads than the loop's."""
    engine.script = [ends(0)]
    threads = []
    for where, name in ((module, "parse_chat_request"), (WordEncoder, "encode")):
        real = getattr(where, name)

        def noted(*args: Any, real: Any = real, **named: Any) -> Any:
            threads.append(get_ident())
            return real(*args, **named)

        monkeypatch.setattr(where, name, noted)
    await stub.CreateChatCompletion(chat("Hi"))
    assert len(threads) == 2
    assert get_ident() not in threads


async def test_content_of_a_request_over_the_size(lifecycle: Lifecycle) -> None:
    """Of a request that holds too much nothing is kept for the log: it would cost too much."""
    rpc: Any = None
    context = request_context()
    set_current(context)
    service = ChatService(lifecycle, Defaults(), FairThreads(1, "test"), log_content=True)
    with pytest.raises(InvalidRequestError):
        await service.CreateChatCompletion(chat(*[""] * 10_001), rpc)
    assert context.transcript.messages is None


async def test_content_of_what_the_engine_refuses(
    lifecycle: Lifecycle, engine: ScriptedEngine
) -> None:
    """What was asked is kept for the log also where there is no room for the request."""
    engine.refusal = OverloadedError("full", Bound.REQUESTS, retry_after=1)
    rpc: Any = None
    context = request_context()
    set_current(context)
    service = ChatService(lifecycle, Defaults(), FairThreads(1, "test"), log_content=True)
    with pytest.raises(OverloadedError):
        await service.CreateChatCompletion(chat("question"), rpc)
    assert context.transcript.messages == [{"role": "user", "content": "question"}]


async def test_connection_lost(address: str, engine: ScriptedEngine) -> None:
    """A caller whose connection ends stops the generation."""
    engine.script = [says(0, "A")]
    async with grpc.aio.insecure_channel(address) as channel:
        await ChatServiceStub(channel).StreamChatCompletion(chat()).read()
    await asyncio.wait_for(engine.cancelled.wait(), 1)
