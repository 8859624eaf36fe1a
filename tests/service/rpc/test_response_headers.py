from __future__ import annotations

import json

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.request import SamplingParams
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.completion_pb2_grpc import CompletionServiceStub
from rapport.v1.tool_pb2 import FunctionDefinition, Tool
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import chat, completion

SAMPLING = "fireworks-sampling-options"
PROMPT = {"fireworks-prompt-tokens": "1", "fireworks-cached-prompt-tokens": "2"}


async def test_whole_answer_tells_how_it_was_made(
    channel: grpc.aio.Channel, engine: ScriptedEngine
) -> None:
    """The headers of a whole answer have the prompt's tokens and the times, in seconds."""
    engine.script = [says(0, "A"), ends(0)]
    call = ChatServiceStub(channel).CreateChatCompletion(chat("one"))
    headers = dict(await call.initial_metadata())
    assert headers.items() >= PROMPT.items()
    first = float(str(headers["fireworks-server-time-to-first-token"]))
    assert 0 < first <= float(str(headers["fireworks-server-processing-time"]))


async def test_stream_tells_what_is_known_before_it(
    channel: grpc.aio.Channel, engine: ScriptedEngine
) -> None:
    """The headers of a stream have the prompt's tokens and no times yet."""
    engine.script = [says(0, "A"), ends(0)]
    call = ChatServiceStub(channel).StreamChatCompletion(chat("one"))
    headers = dict(await call.initial_metadata())
    assert headers.items() >= PROMPT.items()
    assert "fireworks-server-processing-time" not in headers


async def test_calls_do_not_share_headers(
    channel: grpc.aio.Channel, engine: ScriptedEngine
) -> None:
    """A stream after a whole answer has none of its times."""
    await test_whole_answer_tells_how_it_was_made(channel, engine)
    await test_stream_tells_what_is_known_before_it(channel, engine)


async def test_sampling_values_are_the_apis(
    channel: grpc.aio.Channel, engine: ScriptedEngine
) -> None:
    """By default what a model advises is not heeded, and nothing is told of it."""
    engine.script = [ends(0)]
    call = ChatServiceStub(channel).CreateChatCompletion(chat("one"))
    assert SAMPLING not in dict(await call.initial_metadata())
    assert engine.requests[0].sampling == SamplingParams()


class TestAdvisedSampling:
    """With the setting `generation_defaults` at `model`."""

    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return load(ServiceSettings, ["--grpc-port", "0", "--generation-defaults", "model"])

    async def test_values_are_the_models(
        self, channel: grpc.aio.Channel, engine: ScriptedEngine
    ) -> None:
        """What a request does not say is what the model's files advise; headers tell."""
        engine.script = [says(0, "A"), ends(0)]
        chats, completions = ChatServiceStub(channel), CompletionServiceStub(channel)
        for call in (
            chats.CreateChatCompletion(chat("one", top_k=5)),
            chats.StreamChatCompletion(chat("one", top_k=5)),
            completions.CreateCompletion(completion("one", top_k=5)),
            completions.StreamCompletion(completion("one", top_k=5)),
        ):
            headers = dict(await call.initial_metadata())
            used = json.loads(headers[SAMPLING])
            assert (used["temperature"], used["top_k"], used["top_p"]) == (0.6, 5, 1.0)
            assert headers.items() >= PROMPT.items()
        expected = SamplingParams(temperature=0.6, top_k=5)
        assert [request.sampling for request in engine.requests] == [expected] * 4


async def test_callers_learn_what_is_not_enforced(
    channel: grpc.aio.Channel, engine: ScriptedEngine
) -> None:
    """The paths of what a grammar leaves out stand in the headers and in the trailers."""
    engine.script = [says(0, "A"), ends(0)]
    parameters = json.dumps({"type": "object", "properties": {"a": {"uniqueItems": True}}})
    tool = Tool(function=FunctionDefinition(name="f", parameters=parameters))
    stub = ChatServiceStub(channel)
    stream = stub.StreamChatCompletion(chat("one", tools=[tool]))
    assert [piece async for piece in stream]
    engine.script = [says(0, "A"), ends(0)]
    whole = stub.CreateChatCompletion(chat("one", tools=[tool]))
    await whole
    for call in (stream, whole):
        for metadata in (await call.initial_metadata(), await call.trailing_metadata()):
            paths = json.loads(str(dict(metadata)["rapport-unenforced"]))
            assert paths == ["tools[0].function.parameters.properties.a.uniqueItems"]
    engine.script = [says(0, "A"), ends(0)]
    other = stub.CreateChatCompletion(chat("one"))
    assert "rapport-unenforced" not in dict(await other.initial_metadata())
