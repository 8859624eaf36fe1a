"""Callers that stop reading: a real server and client, whose window fills."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from rapport.common.settings import load
from rapport.common.tls import TlsFiles
from rapport.service.config import ServiceSettings
from rapport.service.engine.generation import MAX_MERGED_TOKENS
from rapport.service.interceptors.slow_reader import ReadWatch
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from tests.certificates import Authority
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import chat

PATIENCE = 0.4
# More than gRPC takes ahead of a reader, in messages that are not merged.
LONG = [says(0, "x" * 20_000, tokens=MAX_MERGED_TOKENS) for _ in range(50)]


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> TlsFiles | None:
    """The service's certificate and its CA, where it has any."""
    if not request.param:
        return None
    ca = Authority(tmp_path)
    return replace(ca.issue("service"), ca=ca.path)


@pytest.fixture
def settings(files: TlsFiles | None) -> ServiceSettings:
    pair = ["--grpc-tls-cert", str(files.chain), "--grpc-tls-key", str(files.key)] if files else []
    return load(ServiceSettings, ["--grpc-port", "0", "--reader-timeout", str(PATIENCE), *pair])


@pytest.fixture
async def narrow(address: str, files: TlsFiles | None) -> grpc.aio.Channel:
    """A channel that takes no more ahead than the protocol's first window."""
    options = [("grpc.http2.bdp_probe", 0)]
    if files is None:
        return grpc.aio.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(files.read().ca)
    return grpc.aio.secure_channel(address, credentials, options)


async def read_on(call: grpc.aio.UnaryStreamCall[object, object]) -> int:
    """Reads to the end. Returns how many messages came."""
    pieces = 0
    while await call.read() is not grpc.aio.EOF:
        pieces += 1
    return pieces


async def test_stuck_reader_is_given_up(
    narrow: grpc.aio.Channel, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """The request is cancelled, the log says why, and who reads on after all hears it, too."""
    caplog.set_level(logging.INFO)
    engine.script = LONG
    async with narrow as channel:
        metadata = (("x-request-id", "stuck"),)
        call = ChatServiceStub(channel).StreamChatCompletion(chat(), metadata=metadata)
        await call.read()
        await asyncio.wait_for(engine.cancelled.wait(), 10)
        assert "request stuck is aborted" in caplog.text
        assert "StreamChatCompletion ABORTED " in caplog.text
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_on(call)
    assert raised.value.code() is grpc.StatusCode.ABORTED
    status, info = rpc_status.from_call(raised.value), ErrorInfo()  # type: ignore[arg-type]
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.reason == "READER_STUCK"


async def test_slow_reader_gets_everything(
    narrow: grpc.aio.Channel, engine: ScriptedEngine
) -> None:
    """Who reads a little now and then is waited for, however long it takes in all."""
    engine.script = [*LONG, ends(0)]
    pieces = 0
    async with narrow as channel:
        call = ChatServiceStub(channel).StreamChatCompletion(chat())
        while await call.read() is not grpc.aio.EOF:
            pieces += 1
            await asyncio.sleep(PATIENCE / 8)
    assert pieces == len(LONG) + 2


async def test_silent_model_is_waited_for(narrow: grpc.aio.Channel, engine: ScriptedEngine) -> None:
    """A caller reads all that there is, however long nothing comes before and between."""
    engine.script = []
    async with narrow as channel:
        call = ChatServiceStub(channel).StreamChatCompletion(chat())
        reading = asyncio.create_task(read_on(call))
        for delta in (says(0, "a"), says(0, "b"), ends(0)):
            await asyncio.sleep(2 * PATIENCE)
            engine.generations[0].add(delta)
        # One more that has the role.
        assert await reading == 4
        assert await call.code() is grpc.StatusCode.OK


async def test_patience_begins_with_each_message() -> None:
    """It ends as long after a message that began just behind a look as after any."""
    given_up = asyncio.Event()
    watch = ReadWatch(1.0, given_up.set)
    watch.start_message()
    watch.end_message()
    await asyncio.sleep(1.1)
    watch.start_message()
    began = time.monotonic()
    await asyncio.wait_for(given_up.wait(), 10)
    assert 1.0 <= time.monotonic() - began < 1.6


async def test_a_caller_that_went_while_stuck_leaves_nothing(
    narrow: grpc.aio.Channel, engine: ScriptedEngine
) -> None:
    """A stuck caller that leaves after it was given up is no fault in the server."""
    engine.script = LONG
    async with narrow as channel:
        call = ChatServiceStub(channel).StreamChatCompletion(chat())
        await call.read()
        await asyncio.wait_for(engine.cancelled.wait(), 10)
        call.cancel()
        engine.script = [ends(0)]
        await ChatServiceStub(channel).CreateChatCompletion(chat())


async def test_who_leaves_in_the_middle_of_a_message_is_no_error(
    narrow: grpc.aio.Channel, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers that are gone are for the access log alone."""
    caplog.set_level(logging.INFO)
    engine.script = LONG
    async with narrow as channel:
        stub = ChatServiceStub(channel)
        calls = [stub.StreamChatCompletion(chat()) for _ in range(8)]
        for call in calls:
            await call.read()
        await asyncio.sleep(PATIENCE / 4)
        for call in calls:
            call.cancel()
        async with asyncio.timeout(10):
            while caplog.text.count("StreamChatCompletion CANCELLED") < len(calls):  # noqa: ASYNC110 - it is a log
                await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
