"""One streamed chat completion over REST or gRPC, timed."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Protocol

import grpc
import httpx
import orjson

from bench.errors import RequestFailedError
from bench.measure import Record
from bench.sse import EventReader
from bench.workload import Request
from rapport.v1 import chat_pb2, chat_pb2_grpc, message_pb2

PATH = "/v1/chat/completions"


class Client(Protocol):
    """Sends requests to one server; any number at a time."""

    async def complete(self, request: Request, record: Record) -> None:
        """Streams the answer, and records when each part of it came.

        Raises:
            RequestFailedError: the answer is incomplete.
        """

    async def close(self) -> None: ...


class RestClient:
    """A client of any server with OpenAI's chat completions and server-sent events."""

    def __init__(self, base_url: str, key: str | None = None) -> None:
        headers = {"content-type": "application/json"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=httpx.Timeout(None),  # the load limits the time of the whole request
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=False,
        )

    async def complete(self, request: Request, record: Record) -> None:
        try:
            async with self._http.stream("POST", PATH, content=_body(request)) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()  # so that the connection can be reused
                    raise RequestFailedError(f"HTTP {response.status_code}")
                await _read_events(response, record)
        except httpx.HTTPError as error:
            raise RequestFailedError(type(error).__name__) from error

    async def close(self) -> None:
        await self._http.aclose()


class GrpcClient:
    """A client of Rapport's service. All requests share a channel, as in a real client."""

    def __init__(self, target: str, key: str | None = None) -> None:
        self._channel = grpc.aio.insecure_channel(target, [("grpc.enable_http_proxy", 0)])
        self._chat = chat_pb2_grpc.ChatServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()

    async def complete(self, request: Request, record: Record) -> None:
        call = self._chat.StreamChatCompletion(_message(request), metadata=self._metadata)
        try:
            async for piece in call:
                _note_piece(piece, perf_counter(), record)
        except grpc.aio.AioRpcError as error:
            raise RequestFailedError(error.code().name) from error
        finally:
            call.cancel()
        if record.finished is None:
            raise RequestFailedError("no finish reason")

    async def close(self) -> None:
        await self._channel.close()


def _body(request: Request) -> bytes:
    return orjson.dumps(
        {
            "model": request.model,
            "messages": [
                {"role": "system", "content": request.system},
                {"role": "user", "content": request.user},
            ],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "ignore_eos": True,
            "stream": True,
            # Some servers send the usage of a stream only on request.
            "stream_options": {"include_usage": True},
        }
        | ({"user": request.name} if request.name else {})
    )


async def _read_events(response: httpx.Response, record: Record) -> None:
    reader = EventReader()
    done = False
    async for data in response.aiter_raw():
        now = perf_counter()
        for payload in reader.feed(data):
            if payload == b"[DONE]":
                done = True
            else:
                note_event(orjson.loads(payload), now, record)
    if not done or record.finished is None:
        raise RequestFailedError("stream cut off")


def note_event(event: Mapping[str, Any], now: float, record: Record) -> None:
    """Adds an event of a stream to the record.

    Raises:
        RequestFailedError: the event is an error.
    """
    if "error" in event:
        raise RequestFailedError(f"error event: {event['error'].get('type')}")
    for choice in event["choices"]:
        if choice["delta"].get("content"):
            record.texts.append(now)
        if choice.get("finish_reason"):
            record.finished = now
    if usage := event.get("usage"):
        record.prompt_tokens = usage["prompt_tokens"]
        record.completion_tokens = usage["completion_tokens"]
        details = usage.get("prompt_tokens_details") or {}
        record.cached_tokens = details.get("cached_tokens") or 0


def _message(request: Request) -> chat_pb2.CreateChatCompletionRequest:
    said = ((message_pb2.ROLE_SYSTEM, request.system), (message_pb2.ROLE_USER, request.user))
    return chat_pb2.CreateChatCompletionRequest(
        model=request.model,
        messages=[
            message_pb2.ChatMessage(role=role, content=message_pb2.ChatContent(text=text))
            for role, text in said
        ],
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        ignore_eos=True,
    )


def _note_piece(piece: chat_pb2.StreamChatCompletionResponse, now: float, record: Record) -> None:
    for choice in piece.choices:
        if choice.delta.content:
            record.texts.append(now)
        if choice.finish_reason:
            record.finished = now
    if piece.HasField("usage"):
        record.prompt_tokens = piece.usage.prompt_tokens
        record.completion_tokens = piece.usage.completion_tokens
        record.cached_tokens = piece.usage.prompt_tokens_details.cached_tokens
