from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.request import FinishReason
from rapport.service.interceptors.access_log import (
    FAILURE_INTERVAL_S,
    MAX_NAME_CHARS,
    log_failures,
)
from rapport.service.interceptors.auth import hash_user
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.service.fakes import ScriptedEngine, ends, request_context, says
from tests.service.requests import MODEL, chat

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
METADATA = (
    ("x-request-id", "abc"),
    ("authorization", "Bearer key"),
    ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),
)

LogLine = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    monkeypatch.setenv("RAPPORT_API_KEYS", "key")
    monkeypatch.setenv("RAPPORT_USER_HASH_SALT", "salt")
    return load(ServiceSettings, ["--grpc-port", "0", *getattr(request, "param", [])])


@pytest.fixture
def log_line(caplog: pytest.LogCaptureFixture) -> LogLine:
    """The fields of the one line in the access log."""
    caplog.set_level(logging.INFO)

    async def one() -> dict[str, Any]:
        async with asyncio.timeout(5):
            while True:
                lines = [vars(r)["fields"] for r in caplog.records if r.name == "rapport.access"]
                if lines:
                    [line] = lines
                    return dict(line)
                await asyncio.sleep(0.01)

    return one


async def test_completion(
    channel: grpc.aio.Channel, engine: ScriptedEngine, log_line: LogLine
) -> None:
    """Who asked, what of, what it took and why it ended; the caller by hashes alone."""
    engine.script = [says(0, "a"), ends(0, reason=FinishReason.LENGTH)]
    await ChatServiceStub(channel).CreateChatCompletion(chat(user="ann"), metadata=METADATA)
    line = await log_line()
    assert 0 < line.pop("ttft_seconds") < line.pop("duration_seconds")
    assert line.pop("itl_seconds") >= 0
    assert line == {
        "request_id": "abc",
        "trace_id": TRACE,
        "method": "/rapport.v1.ChatService/CreateChatCompletion",
        "code": "OK",
        "streamed": False,
        "key_id": sha256(b"key").hexdigest()[:12],
        "user_hash": hash_user("ann", b"salt"),
        "model": MODEL,
        "prompt_tokens": len(engine.requests[0].prompt),
        "cached_tokens": 2,
        "completion_tokens": 2,
        "finish_reasons": ["length"],
    }


async def test_stream_of_choices(
    channel: grpc.aio.Channel, engine: ScriptedEngine, log_line: LogLine
) -> None:
    """Reasons stand in the order of the choices."""
    engine.script = [ends(1), says(0, "a"), ends(0, reason=FinishReason.LENGTH)]
    call = ChatServiceStub(channel).StreamChatCompletion(chat(n=2), metadata=METADATA)
    assert [piece async for piece in call]
    line = await log_line()
    assert (line["streamed"], line["finish_reasons"]) == (True, ["length", "stop"])


@pytest.mark.usefixtures("engine")
async def test_refused(channel: grpc.aio.Channel, log_line: LogLine) -> None:
    """What never came to the engine has no tokens, and a model's name is bounded."""
    with pytest.raises(grpc.aio.AioRpcError):
        await ChatServiceStub(channel).CreateChatCompletion(
            chat(model="m" * 1000), metadata=METADATA
        )
    line = await log_line()
    assert line["code"] == "NOT_FOUND"
    assert line["model"] == "m" * MAX_NAME_CHARS
    assert not {"prompt_tokens", "finish_reasons", "messages", "answers"} & line.keys()


@pytest.mark.parametrize("settings", [["--log-content"]], indirect=True)
async def test_content(
    channel: grpc.aio.Channel, engine: ScriptedEngine, log_line: LogLine
) -> None:
    """Asked to, the line has what was asked and what was answered."""
    engine.script = [says(0, "an"), ends(0, "swer")]
    await ChatServiceStub(channel).CreateChatCompletion(chat("question"), metadata=METADATA)
    line = await log_line()
    assert line["messages"] == [{"role": "user", "content": "question"}]
    assert line["answers"] == ["answer"]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("settings", [["--log-content"]], indirect=True)
async def test_content_of_what_is_refused(channel: grpc.aio.Channel, log_line: LogLine) -> None:
    """The request is logged if it is refused, too."""
    with pytest.raises(grpc.aio.AioRpcError):
        await ChatServiceStub(channel).CreateChatCompletion(
            chat("question", model="other"), metadata=METADATA
        )
    assert (await log_line())["messages"] == [{"role": "user", "content": "question"}]


def test_failures_are_a_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """Of many refusals one has a line, and the next line counts the others; successes have none."""
    caplog.set_level(logging.INFO)
    now = 0.0
    observe = log_failures(lambda: now)
    failed = request_context("/a/B")
    failed.code, failed.error_reason = grpc.StatusCode.INVALID_ARGUMENT, "UNREADABLE"
    for _ in range(3):
        observe(failed)
        observe(request_context("/a/B"))
    now = FAILURE_INTERVAL_S
    observe(failed)
    line = "/a/B INVALID_ARGUMENT UNREADABLE; {} more were not logged"
    assert caplog.messages == [line.format(0), line.format(2)]
