"""A scripted server: what a small real one would say, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
import pytest

from rapport.v1 import chat_pb2, chat_pb2_grpc, usage_pb2

PROMPT_TOKENS = 40
# Seconds before each token.
PAUSE = 0.002


@dataclass(frozen=True)
class Fake:
    """Where the scripted server answers."""

    rest: str
    grpc: str


class Chat(chat_pb2_grpc.ChatServiceServicer):
    """Says max_tokens words; refuses the temperature 2."""

    async def CreateChatCompletion(self, request: Any, context: Any) -> Any:  # noqa: N802 - given
        raise NotImplementedError

    async def StreamChatCompletion(  # noqa: N802 - given
        self, request: chat_pb2.CreateChatCompletionRequest, context: Any
    ) -> AsyncIterator[chat_pb2.StreamChatCompletionResponse]:
        if request.temperature == 2:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        for number in range(request.max_tokens):
            await asyncio.sleep(PAUSE)
            yield piece(content=f"word{number} ")
        last = piece()
        last.choices[0].finish_reason = chat_pb2.FINISH_REASON_LENGTH
        last.usage.CopyFrom(usage(request.max_tokens))
        yield last


def piece(**delta: Any) -> chat_pb2.StreamChatCompletionResponse:
    choice = chat_pb2.ChoiceDelta(delta=chat_pb2.MessageDelta(**delta))
    return chat_pb2.StreamChatCompletionResponse(choices=[choice])


def usage(completion_tokens: int) -> usage_pb2.Usage:
    return usage_pb2.Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=completion_tokens)


async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1 with the same script; connections are kept for further requests."""
    while head := await read_head(reader):
        length = next(line for line in head.splitlines() if line.startswith(b"content-length"))
        body = orjson.loads(await reader.readexactly(int(length.split()[1])))
        if body["temperature"] == 2:
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}")
            continue
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        async for data in events(body["max_tokens"]):
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        writer.write(b"0\r\n\r\n")
    writer.close()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).lower()
    except asyncio.IncompleteReadError:
        return b""


async def events(max_tokens: int) -> AsyncIterator[bytes]:
    for number in range(max_tokens):
        await asyncio.sleep(PAUSE)
        yield event({"choices": [{"delta": {"content": f"word{number} "}, "finish_reason": None}]})
    counts = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": max_tokens}
    yield event({"choices": [{"delta": {}, "finish_reason": "length"}], "usage": counts})
    yield b"data: [DONE]\n\n"


def event(content: Any) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    rpc = grpc.aio.server()
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Chat(), rpc)
    grpc_port = rpc.add_insecure_port("127.0.0.1:0")
    await rpc.start()
    http = await asyncio.start_server(answer_http, "127.0.0.1", 0)
    http_port = http.sockets[0].getsockname()[1]
    yield Fake(f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}")
    http.close()
    await rpc.stop(None)
