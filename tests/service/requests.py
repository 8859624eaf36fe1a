"""Requests that tests send, in few words."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.completion_pb2 import CompletionPrompt, CreateCompletionRequest
from rapport.v1.message_pb2 import ChatContent, ChatMessage, Role

MODEL = "smollm2-135m-instruct"


def message(role: str, text: str | None) -> ChatMessage:
    """A message of `role`, as in `user`."""
    content = None if text is None else ChatContent(text=text)
    return ChatMessage(role=Role.Value(f"ROLE_{role.upper()}"), content=content)


async def health(channel: grpc.aio.Channel, service: str = "") -> int:
    """What a probe hears of a service."""
    stub: Any = HealthStub(channel)  # its types know no asyncio
    status: int = (await stub.Check(HealthCheckRequest(service=service))).status
    return status


def user(text: str) -> ChatMessage:
    return message("user", text)


def chat(*texts: str, **fields: Any) -> CreateChatCompletionRequest:
    """A request of user messages, "Hi" if none is given."""
    given = {"model": MODEL, "messages": [user(text) for text in texts or ("Hi",)]}
    return CreateChatCompletionRequest(**(given | fields))


def completion(text: str = "Hi", **fields: Any) -> CreateCompletionRequest:
    """A request to continue a text."""
    given = {"model": MODEL, "prompt": CompletionPrompt(text=text)}
    return CreateCompletionRequest(**(given | fields))
