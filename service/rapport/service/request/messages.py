"""The contract's rules for the messages of a request."""

from __future__ import annotations

import re

from rapport.service.errors import FieldViolation
from rapport.service.request.rules import Violations, known, matches, required, size
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.message_pb2 import ChatMessage, ChatMessageContent, Role
from rapport.v1.tool_pb2 import ToolCall, ToolType

NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


def message_violations(request: CreateChatCompletionRequest) -> Violations:
    yield from size("messages", len(request.messages), 1)
    for index, message in enumerate(request.messages):
        path = f"messages[{index}]"
        yield from role_violations(path, message)
        yield from content_violations(f"{path}.content", message)
        yield from call_violations(path, message)
        if message.HasField("name"):
            yield from matches(f"{path}.name", message.name, NAME)


def role_violations(path: str, message: ChatMessage) -> Violations:
    yield from required(f"{path}.role", given=message.role != Role.ROLE_UNSPECIFIED)
    yield from known(f"{path}.role", message.role, Role.DESCRIPTOR)
    if message.role == Role.ROLE_TOOL:
        yield from required(f"{path}.tool_call_id", given=bool(message.tool_call_id))


def content_violations(path: str, message: ChatMessage) -> Violations:
    kind = message.content.WhichOneof("kind")
    calls = message.role == Role.ROLE_ASSISTANT and message.tool_calls
    if kind is None and not calls:
        yield from required(path, given=False)
    elif kind == "parts":
        parts = message.content.parts.items
        yield from size(path, len(parts), 1)
        for index, part in enumerate(parts):
            yield from part_violations(f"{path}[{index}]", part)


def part_violations(path: str, part: ChatMessageContent) -> Violations:
    kind = part.WhichOneof("kind")
    yield from required(f"{path}.type", given=kind is not None)
    if kind in ("image_url", "video_url"):
        yield FieldViolation(path, f"The model reads text only, not '{kind}'")


def call_violations(path: str, message: ChatMessage) -> Violations:
    if message.tool_calls and message.role != Role.ROLE_ASSISTANT:
        yield FieldViolation(
            f"{path}.tool_calls", "Only an assistant's message may have tool calls"
        )
    for index, call in enumerate(message.tool_calls):
        yield from one_call_violations(f"{path}.tool_calls[{index}]", call)


def one_call_violations(path: str, call: ToolCall) -> Violations:
    yield from known(f"{path}.type", call.type, ToolType.DESCRIPTOR)
    yield from required(f"{path}.function", given=call.HasField("function"))
    if call.HasField("function"):
        yield from matches(f"{path}.function.name", call.function.name, NAME)
