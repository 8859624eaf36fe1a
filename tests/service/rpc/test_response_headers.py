from __future__ import annotations

import grpc

from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import chat

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
