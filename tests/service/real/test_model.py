"""Both RPCs with the real engine and the real model."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from rapport.service.engine.engine import Engine
from rapport.v1.chat_pb2 import FinishReason, StopSequences
from rapport.v1.format_pb2 import ResponseFormat
from tests.service.requests import chat, message, user

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREEDY = {"temperature": 0, "max_tokens": 16}
FRANCE = "What is the capital of France?"


async def text(stub: ChatServiceAsyncStub, *texts: str, **fields: Any) -> str:
    whole = await stub.CreateChatCompletion(chat(*texts, **(GREEDY | fields)))
    return whole.choices[0].message.content


async def streamed(stub: ChatServiceAsyncStub, *texts: str, **fields: Any) -> list[str]:
    joined: dict[int, str] = defaultdict(str)
    async for piece in stub.StreamChatCompletion(chat(*texts, **(GREEDY | fields))):
        for choice in piece.choices:
            joined[choice.index] += choice.delta.content
    return [joined[index] for index in sorted(joined)]


async def test_stream_is_the_whole(stub: ChatServiceAsyncStub) -> None:
    """Joined, a stream's deltas are the unary answer."""
    whole = await text(stub, FRANCE)
    assert whole
    assert await streamed(stub, FRANCE) == [whole]


async def test_eight_at_once(stub: ChatServiceAsyncStub) -> None:
    """Streams that share the model, and wait for it, all end with their own usage."""
    calls = [stub.CreateChatCompletion(chat("word " * place, **GREEDY)) for place in range(8)]
    answers = await asyncio.gather(*calls)
    assert all(answer.choices[0].message.content for answer in answers)
    prompts = [answer.usage.prompt_tokens for answer in answers]
    assert prompts == sorted(set(prompts))


async def test_seed(stub: ChatServiceAsyncStub) -> None:
    """The same seed gives the same answers, and each of the n its own."""
    fields = {"temperature": 1.5, "seed": 7, "n": 3}
    first = await streamed(stub, FRANCE, **fields)
    assert await streamed(stub, FRANCE, **fields) == first
    assert len(set(first)) == 3


async def test_stop_is_included(stub: ChatServiceAsyncStub) -> None:
    """An answer ends exactly with the stop text, in streams too."""
    whole = await text(stub, FRANCE)
    stop = whole[3:8]
    fields = {"stop": StopSequences(text=stop)}
    stopped = await text(stub, FRANCE, **fields)
    assert stopped == whole[: whole.index(stop) + len(stop)]
    assert await streamed(stub, FRANCE, **fields) == [stopped]


async def test_usage_and_length(stub: ChatServiceAsyncStub) -> None:
    """The prompt counts once, completions are summed, and max_tokens ends them."""
    whole = await stub.CreateChatCompletion(chat(FRANCE, n=2, max_tokens=5, ignore_eos=True))
    usage = whole.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (37, 10, 47)
    reasons = [choice.finish_reason for choice in whole.choices]
    assert reasons == [FinishReason.FINISH_REASON_LENGTH] * 2


async def test_without_ends_an_answer_is_as_long_as_it_may_be(stub: ChatServiceAsyncStub) -> None:
    """Also where a grammar lets it end, and where the model would."""
    wanted = ResponseFormat(regex="[a-z ]+")
    whole = await stub.CreateChatCompletion(
        chat(FRANCE, **GREEDY, ignore_eos=True, logit_bias={2: 100}, response_format=wanted)
    )
    assert whole.usage.completion_tokens == GREEDY["max_tokens"]
    assert whole.choices[0].finish_reason == FinishReason.FINISH_REASON_LENGTH


async def test_text_that_names_a_special_token_can_be_enforced(stub: ChatServiceAsyncStub) -> None:
    """In the middle of a document and beyond what a new grammar is tried with."""
    schema = """{"type": "object", "required": ["a", "b"], "properties": {
        "a": {"type": "string", "maxLength": 8}, "b": {"const": "<|im_end|>"}}}"""
    wanted = ResponseFormat(json_schema=schema)
    fields: dict[str, Any] = {"response_format": wanted, "max_tokens": 60}
    whole = await text(stub, FRANCE, **fields)
    assert json.loads(whole)["b"] == "<|im_end|>"
    assert await streamed(stub, FRANCE, **fields) == [whole]


async def test_roles(stub: ChatServiceAsyncStub) -> None:
    """A conversation of all roles is answered."""
    result = message("tool", "42")
    result.tool_call_id = "call_1"
    messages = [message("developer", "Be brief."), user("?"), message("assistant", "Hm."), result]
    assert await text(stub, messages=messages)


async def test_prompt_too_long(stub: ChatServiceAsyncStub) -> None:
    """A prompt that fills the context is refused with its length and the model's."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.CreateChatCompletion(chat("word " * 9000))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == (
        "The prompt is too long: 9031, model maximum context length: 8191"
    )


async def test_cancel_frees_the_slot(stub: ChatServiceAsyncStub, real_engine: Engine) -> None:
    """A caller that leaves frees its slot at once."""
    before = real_engine.counters.cancelled
    call = stub.StreamChatCompletion(chat(max_tokens=8000, ignore_eos=True))
    await call.read()
    call.cancel()
    for _ in range(200):
        if real_engine.counters.cancelled > before:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the generation goes on")
