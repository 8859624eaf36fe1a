"""The completion RPCs, in front of a scripted engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from rapport.common.fair_threads import FairThreads
from rapport.service.errors import InvalidRequestError
from rapport.service.interceptors.context import set_current
from rapport.service.lifecycle import Lifecycle
from rapport.service.request.generation import COMPLETION_MAX_TOKENS, Defaults
from rapport.service.rpc.completion_service import CompletionService
from rapport.v1.chat_pb2 import TokenIds
from rapport.v1.completion_pb2 import CompletionPrompt, TextList
from rapport.v1.completion_pb2_grpc import CompletionServiceStub
from tests.service.fakes import ScriptedEngine, ends, request_context, says
from tests.service.requests import completion

if TYPE_CHECKING:
    from rapport.v1.completion_pb2_grpc import CompletionServiceAsyncStub

TWO = CompletionPrompt(texts=TextList(items=["one two", "three"]))


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> CompletionServiceAsyncStub:
    return CompletionServiceStub(channel)


async def test_whole(stub: CompletionServiceAsyncStub, engine: ScriptedEngine) -> None:
    """The unary RPC gives the text, and the model as the request named it."""
    engine.script = [says(0, "Hello"), ends(0, "!")]
    whole = await stub.CreateCompletion(completion("one two three"))
    assert whole.choices[0].text == "Hello!"
    assert (whole.model, whole.usage.prompt_tokens) == (completion().model, 3)
    (request,) = engine.requests
    assert (request.prompt, request.max_tokens) == ((0, 1, 2), COMPLETION_MAX_TOKENS)


async def test_several_prompts(stub: CompletionServiceAsyncStub, engine: ScriptedEngine) -> None:
    """Each prompt is a request of the engine; the choices are numbered over all of them."""
    engine.script = [ends(0, "a"), ends(1, "b")]
    whole = await stub.CreateCompletion(completion(prompt=TWO, n=2))
    assert [choice.text for choice in whole.choices] == ["a", "b"] * 2
    assert [request.prompt for request in engine.requests] == [(0, 1), (0,)]
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, 4)


async def test_stream(stub: CompletionServiceAsyncStub, engine: ScriptedEngine) -> None:
    """The stream gives text, reasons, and usage at the end; headers tell of the prompt."""
    engine.script = [says(0, "Hello"), ends(0)]
    call = stub.StreamCompletion(completion(prompt=TWO))
    pieces = [piece async for piece in call]
    texts = ["", ""]
    for piece in pieces:
        texts[piece.choices[0].index] += piece.choices[0].text
    assert texts == ["Hello", "Hello"]
    assert [piece.HasField("usage") for piece in pieces] == [False] * 3 + [True]
    headers = dict(await call.initial_metadata())
    assert "fireworks-prompt-tokens" in headers


async def test_tokens_are_the_prompt(
    stub: CompletionServiceAsyncStub, engine: ScriptedEngine
) -> None:
    """A prompt of tokens goes to the engine as it is."""
    engine.script = [ends(0)]
    prompt = CompletionPrompt(token_ids=TokenIds(items=[5, 6, 7]))
    await stub.CreateCompletion(completion(prompt=prompt))
    assert engine.requests[0].prompt == (5, 6, 7)


async def test_all_prompts_count_for_the_limit(
    lifecycle: Lifecycle, engine: ScriptedEngine
) -> None:
    """The limit of a request's tokens holds for all prompts together."""
    rpc: Any = None
    set_current(request_context())
    limited = CompletionService(lifecycle, Defaults(max_request_tokens=31), FairThreads(1, "test"))
    with pytest.raises(Exception, match="2 choices of 16 tokens are more than 31 tokens together"):
        await limited.CreateCompletion(completion(prompt=TWO), rpc)
    assert engine.requests == []


async def test_cancelled(stub: CompletionServiceAsyncStub, engine: ScriptedEngine) -> None:
    """A caller that leaves stops the generations of all prompts."""
    engine.script = [says(0, "A")]
    call = stub.StreamCompletion(completion(prompt=TWO))
    await call.read()
    call.cancel()
    await asyncio.wait_for(engine.cancelled.wait(), 5)


async def test_content_is_logged(lifecycle: Lifecycle, engine: ScriptedEngine) -> None:
    """Where content is logged, prompts and completions are kept."""
    engine.script = [ends(0, "Hello")]
    rpc: Any = None
    context = request_context()
    set_current(context)
    service = CompletionService(lifecycle, Defaults(), FairThreads(1, "test"), log_content=True)
    await service.CreateCompletion(completion("one two"), rpc)
    assert context.transcript.messages == [{"role": "prompt", "content": "one two"}]
    assert context.transcript.texts == ["Hello"]


@pytest.mark.usefixtures("engine")
async def test_content_of_what_is_refused_is_logged(lifecycle: Lifecycle) -> None:
    """Prompts are kept before they are checked, without tokens that there are not."""
    rpc: Any = None
    context = request_context()
    set_current(context)
    service = CompletionService(lifecycle, Defaults(), FairThreads(1, "test"), log_content=True)
    for prompt, text in (
        (CompletionPrompt(text="one"), "one"),
        (CompletionPrompt(token_ids=TokenIds(items=[0, 10**9, -1, 1])), "01"),
    ):
        with pytest.raises(InvalidRequestError):
            await service.CreateCompletion(completion(prompt=prompt, temperature=9), rpc)
        assert context.transcript.messages == [{"role": "prompt", "content": text}]


async def test_another_model(stub: CompletionServiceAsyncStub, engine: ScriptedEngine) -> None:
    """A model that is not served is not found, whatever else is wrong."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.CreateCompletion(completion(model="other", n=0))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert not engine.requests
