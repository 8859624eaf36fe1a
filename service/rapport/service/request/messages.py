"""The rules for the messages of a request."""

from __future__ import annotations

from collections.abc import Sequence

from rapport.rest.v1.rest_pb2 import FieldLimits
from rapport.service.errors import FieldViolation
from rapport.service.request.rules import (
    Violations,
    check_enum,
    check_given,
    check_min_items,
    check_pattern,
    limits_of,
)
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.message_pb2 import ChatMessage, ChatMessageContent, Role
from rapport.v1.tool_pb2 import FunctionCall, ToolCall, ToolType

MESSAGES = limits_of(CreateChatCompletionRequest, "messages")
# Not a limit of ChatContentParts, because the parts of a prediction may be none.
NOT_EMPTY = FieldLimits(min_items=1)
SPEAKER_NAME = limits_of(ChatMessage, "name")
FUNCTION_NAME = limits_of(FunctionCall, "name")


def message_violations(messages: Sequence[ChatMessage]) -> Violations:
    yield from check_min_items("messages", len(messages), MESSAGES)
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        yield from _role_violations(path, message)
        yield from _content_violations(f"{path}.content", message)
        yield from _calls_violations(path, message)
        if message.HasField("name"):
            yield from check_pattern(f"{path}.name", message.name, SPEAKER_NAME)


def _role_violations(path: str, message: ChatMessage) -> Violations:
    yield from check_given(f"{path}.role", given=message.role != Role.ROLE_UNSPECIFIED)
    yield from check_enum(f"{path}.role", message.role, Role.DESCRIPTOR)
    if message.role == Role.ROLE_TOOL:
        yield from check_given(f"{path}.tool_call_id", given=bool(message.tool_call_id))


def _content_violations(path: str, message: ChatMessage) -> Violations:
    kind = message.content.WhichOneof("kind")
    calls = message.role == Role.ROLE_ASSISTANT and message.tool_calls
    if kind is None and not calls:
        yield from check_given(path, given=False)
    elif kind == "parts":
        parts = message.content.parts.items
        yield from check_min_items(path, len(parts), NOT_EMPTY)
        for index, part in enumerate(parts):
            yield from _part_violations(f"{path}[{index}]", part)


def _part_violations(path: str, part: ChatMessageContent) -> Violations:
    kind = part.WhichOneof("kind")
    yield from check_given(f"{path}.type", given=kind is not None)
    if kind in ("image_url", "video_url"):
        yield FieldViolation(path, f"The model reads text only, not '{kind}'")


def _calls_violations(path: str, message: ChatMessage) -> Violations:
    if message.tool_calls and message.role != Role.ROLE_ASSISTANT:
        text = "Only an assistant's message may have tool calls"
        yield FieldViolation(f"{path}.tool_calls", text)
    for index, call in enumerate(message.tool_calls):
        yield from _call_violations(f"{path}.tool_calls[{index}]", call)


def _call_violations(path: str, call: ToolCall) -> Violations:
    yield from check_enum(f"{path}.type", call.type, ToolType.DESCRIPTOR)
    yield from check_given(f"{path}.function", given=call.HasField("function"))
    if call.HasField("function"):
        yield from check_pattern(f"{path}.function.name", call.function.name, FUNCTION_NAME)
