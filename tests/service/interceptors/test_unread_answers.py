"""Whole answers that callers do not read: raw connections whose window is closed."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.engine.errors import OverloadedError
from rapport.service.interceptors import unread_answers
from rapport.service.interceptors.unread_answers import UnreadAnswers
from tests.fuzz import http2
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import chat

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub

PATIENCE_S = 2
MAX_WAIT_S = 30
ANSWER_BYTES = 1_000_000


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    """Room for two answers that a single caller does not read."""
    monkeypatch.setattr(unread_answers, "MAX_UNREAD_BYTES", 4 * ANSWER_BYTES + ANSWER_BYTES // 2)
    return load(ServiceSettings, ["--grpc-port", "0", "--reader-timeout", str(PATIENCE_S)])


def script(engine: ScriptedEngine) -> None:
    """Says what the next request is answered."""
    engine.script = [says(0, "x" * ANSWER_BYTES), ends(0)]


async def call_without_reading(address: str, engine: ScriptedEngine) -> socket.socket:
    script(engine)
    begun = len(engine.generations)
    peer = await asyncio.to_thread(http2.connect, address)
    request = http2.request(1, http2.CHAT, chat().SerializeToString())
    peer.sendall(http2.opening(0) + request)
    await wait_until(lambda: len(engine.generations) > begun)
    return peer


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(MAX_WAIT_S):
        while not condition():  # noqa: ASYNC110 - it is a log
            await asyncio.sleep(0.01)


async def is_refused(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> bool:
    """Whether a call is refused; it has no other error."""
    script(engine)
    try:
        await stub.CreateChatCompletion(chat())
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return True
    return False


async def test_an_unread_answer_is_given_up(
    address: str, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """It is aborted as a stream is that nobody reads, and counted like it."""
    caplog.set_level(logging.INFO)
    with await call_without_reading(address, engine):
        await wait_until(lambda: "CreateChatCompletion ABORTED " in caplog.text)
    assert "the client read nothing of the answer" in caplog.text


async def test_an_answer_that_is_read_is_whole(
    address: str, stub: ChatServiceAsyncStub, engine: ScriptedEngine
) -> None:
    """Whoever reads gets the whole of an answer, however many there were before."""
    del address
    for _ in range(5):
        script(engine)
        answer = await stub.CreateChatCompletion(chat())
        assert len(answer.choices[0].message.content) == ANSWER_BYTES


async def test_unread_answers_are_bounded(
    address: str,
    stub: ChatServiceAsyncStub,
    engine: ScriptedEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A caller whose answers stay unread gets no more of them until it hangs up.

    gRPC keeps them that long, also when the calls have been given up.
    """
    caplog.set_level(logging.INFO)
    peers = [await call_without_reading(address, engine) for _ in range(2)]
    await wait_until(lambda: caplog.text.count("CreateChatCompletion ABORTED ") == len(peers))
    peers.append(await call_without_reading(address, engine))
    await wait_until(lambda: "CreateChatCompletion RESOURCE_EXHAUSTED " in caplog.text)
    for peer in peers:
        peer.close()
    async with asyncio.timeout(MAX_WAIT_S):
        while await is_refused(stub, engine):
            pass


def test_a_caller_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many answers a caller may hold as much as is free; a single one is always sent."""
    monkeypatch.setattr(unread_answers, "MAX_UNREAD_BYTES", 100)
    unread = UnreadAnswers()
    unread.hold("greedy", 30)
    unread.hold("greedy", 20)
    with pytest.raises(OverloadedError):
        unread.hold("greedy", 1)
    unread.hold("other", 200)
    unread.release("other", 200)
    unread.release("greedy", 30)
    unread.hold("greedy", 20)
