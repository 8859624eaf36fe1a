"""Reflection, asked by the tools that people use, as real processes."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.service.rpc.reflection import (
    MAX_BYTES_PER_MINUTE,
    MAX_REQUESTS,
    METHOD,
    V1,
    Request,
    Response,
)
from rapport.service.rpc.service_names import CHAT_SERVICE
from rapport.service.server import MAX_REFLECTIONS_PER_CONNECTION
from tests.fuzz import http2
from tests.service.fakes import ScriptedEngine, ends
from tests.service.requests import MODEL

BIN = Path(sys.executable).parent
SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "rapport.v1.ChatService",
    "rapport.v1.CompletionService",
    "rapport.v1.ModelService",
    "rapport.v1.StatusService",
}
REQUEST = json.dumps(
    {"model": MODEL, "messages": [{"role": "ROLE_USER", "content": {"text": "Hi"}}]}
)


async def ran(program: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        BIN / program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def grpcurl(*arguments: str) -> str:
    return await ran("grpcurl", "-plaintext", *arguments)


async def buf_curl(*arguments: str) -> str:
    return await ran("buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments)


async def test_grpcurl_lists(address: str) -> None:
    """All services are listed, both reflections among them."""
    assert set((await grpcurl(address, "list")).split()) == SERVICES


@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_grpcurl_describes(address: str, service: str) -> None:
    """All services that are listed can be described."""
    described = await grpcurl(address, "describe", service)
    assert described.startswith(f"{service} is a service:")


async def test_grpcurl_calls(address: str, engine: ScriptedEngine) -> None:
    """grpcurl calls both RPCs without any protos at hand."""
    engine.script = [ends(0, "Hello")]
    whole = await grpcurl("-d", REQUEST, address, "rapport.v1.ChatService/CreateChatCompletion")
    assert json.loads(whole)["choices"][0]["message"]["content"] == "Hello"
    stream = await grpcurl("-d", REQUEST, address, "rapport.v1.ChatService/StreamChatCompletion")
    assert '"content": "Hello"' in stream


@pytest.mark.parametrize("version", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_curl_calls(address: str, engine: ScriptedEngine, version: str) -> None:
    """buf curl calls through each version of reflection."""
    engine.script = [ends(0, "Hello")]
    url = f"http://{address}/rapport.v1.ChatService/CreateChatCompletion"
    whole = await buf_curl("--reflect-protocol", version, "--data", REQUEST, url)
    assert json.loads(whole)["choices"][0]["message"]["content"] == "Hello"


async def test_buf_curl_lists_methods(address: str) -> None:
    """buf curl lists the methods of all services."""
    methods = await buf_curl("--list-methods", f"http://{address}")
    assert "rapport.v1.ChatService/StreamChatCompletion" in methods.split()


class Stream:
    """A stream of reflection that asks for one name after another."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = channel.stream_stream(
            f"/{V1}/{METHOD}",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )()

    async def ask(self, **request: Any) -> Any:
        """The answer; EOF when the stream has ended."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.call.write(Request(**request))
            return await self.call.read()
        return grpc.aio.EOF

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        return await self.call.code(), await self.call.details()


class TestBounds:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        flags = ["--grpc-port", "0", "--read-timeout", "0.3", "--reader-timeout", "0.3"]
        return load(ServiceSettings, flags)

    async def test_answers_repeat_the_request(self, channel: grpc.aio.Channel) -> None:
        """An answer that was computed before is that of the request, whatever its host is."""
        stream = Stream(channel)
        for host in ("", "one", "two"):
            answer = await stream.ask(file_containing_symbol=CHAT_SERVICE, host=host)
            expected = Request(file_containing_symbol=CHAT_SERVICE, host=host)
            assert answer.original_request == expected
            assert answer.file_descriptor_response.file_descriptor_proto

    async def test_requests_of_a_stream(self, channel: grpc.aio.Channel) -> None:
        """A stream that asks too often ends; another one is answered."""
        stream = Stream(channel)
        for _ in range(MAX_REQUESTS):
            assert await stream.ask(list_services="") is not grpc.aio.EOF
        assert await stream.ask(list_services="") is grpc.aio.EOF
        expected = f"a stream of reflection answers {MAX_REQUESTS} requests"
        assert await stream.ended() == (grpc.StatusCode.RESOURCE_EXHAUSTED, expected)
        assert await Stream(channel).ask(list_services="") is not grpc.aio.EOF

    async def test_bytes_of_a_connection(self, address: str, channel: grpc.aio.Channel) -> None:
        """A connection that had its share has to wait; another one is answered."""
        stream = Stream(channel)
        sent = 0
        while (answer := await stream.ask(file_containing_symbol=CHAT_SERVICE)) is not grpc.aio.EOF:
            sent += answer.ByteSize()
        assert sent < 1.1 * MAX_BYTES_PER_MINUTE
        code, text = await stream.ended()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text.startswith("the connection has had too many bytes of answers")
        own_pool = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, own_pool) as other:
            assert await Stream(other).ask(list_services="") is not grpc.aio.EOF

    async def test_streams_of_a_connection(self, channel: grpc.aio.Channel) -> None:
        """A connection has so many streams at once."""
        streams = [Stream(channel) for _ in range(MAX_REFLECTIONS_PER_CONNECTION)]
        for stream in streams:
            await stream.ask(list_services="")
        code, text = await Stream(channel).ended()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text.startswith(f"the connection has {MAX_REFLECTIONS_PER_CONNECTION} calls")

    async def test_long_name(self, channel: grpc.aio.Channel) -> None:
        """A name that no file or symbol can have is refused, and not repeated."""
        stream = Stream(channel)
        assert await stream.ask(file_by_filename="x" * 10_000) is grpc.aio.EOF
        code, text = await stream.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert text == "The request should have at most 4096 bytes, field: 'file_by_filename'"

    async def test_idle_stream(self, channel: grpc.aio.Channel) -> None:
        """A stream that asks nothing more holds no place."""
        stream = Stream(channel)
        await stream.ask(list_services="")
        expected = grpc.StatusCode.CANCELLED, "The request did not come within 0.3 s"
        assert await stream.ended() == expected

    async def test_slow_reader(self, address: str, caplog: pytest.LogCaptureFixture) -> None:
        """A caller that reads nothing is given up."""
        asked = Request(list_services="").SerializeToString()
        with http2.connect(address) as stuck:
            stuck.sendall(http2.opening(0) + http2.request(1, f"/{V1}/{METHOD}", asked))
            async with asyncio.timeout(30):
                while "is aborted: the client read nothing" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0.01)

    async def test_junk(self, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture) -> None:
        """Bytes that are no request are the caller's mistake; the log has a line for many."""
        caplog.set_level(logging.INFO)
        for _ in range(20):
            call = channel.stream_stream(f"/{V1}/{METHOD}")(iter([b"\xff\xff"]))
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert 0 < caplog.text.count("UNREADABLE") < 20
        assert "Traceback" not in caplog.text
