from __future__ import annotations

import pytest

from rapport.service.request.messages import message_violations
from rapport.v1.message_pb2 import (
    ChatContent,
    ChatContentParts,
    ChatMessage,
    ChatMessageContent,
    MediaUrl,
    Role,
)
from rapport.v1.tool_pb2 import FunctionCall, ToolCall, ToolType
from tests.service.requests import message

CALL = ToolCall(id="call_1", type=ToolType.TOOL_TYPE_FUNCTION, function=FunctionCall(name="f"))
TEXT = ChatContent(text="Hi")


def parts(*items: ChatMessageContent) -> ChatContent:
    return ChatContent(parts=ChatContentParts(items=items))


def violations(*messages: ChatMessage) -> list[str]:
    return list(map(str, message_violations(messages)))


@pytest.mark.parametrize(
    "good",
    [
        message("system", ""),
        message("developer", "Be brief."),
        ChatMessage(role=Role.ROLE_USER, content=parts(ChatMessageContent(text="Hi"))),
        ChatMessage(role=Role.ROLE_ASSISTANT, tool_calls=[CALL]),
        ChatMessage(role=Role.ROLE_ASSISTANT, content=ChatContent(), tool_calls=[CALL]),
        ChatMessage(role=Role.ROLE_TOOL, content=TEXT, tool_call_id="call_1"),
        ChatMessage(role=Role.ROLE_USER, content=TEXT, name="Ada_L-1"),
    ],
)
def test_good_messages(good: ChatMessage) -> None:
    """Every form that the contract names is accepted."""
    assert violations(good) == []


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (ChatMessage(content=TEXT), "Field required, field: 'messages[0].role'"),
        (
            ChatMessage(role=99, content=TEXT),  # type: ignore[arg-type]
            (
                "Input should be 'system', 'user', 'assistant', 'tool' or 'developer', "
                "field: 'messages[0].role'"
            ),
        ),
        (message("user", None), "Field required, field: 'messages[0].content'"),
        (message("assistant", None), "Field required, field: 'messages[0].content'"),
        (
            ChatMessage(role=Role.ROLE_USER, content=parts()),
            (
                "List should have at least 1 item after validation, not 0, "
                "field: 'messages[0].content'"
            ),
        ),
        (
            ChatMessage(role=Role.ROLE_USER, content=parts(ChatMessageContent())),
            "Field required, field: 'messages[0].content[0].type'",
        ),
        (
            ChatMessage(
                role=Role.ROLE_USER,
                content=parts(
                    ChatMessageContent(text="What is this?"),
                    ChatMessageContent(image_url=MediaUrl(url="https://x/y.png")),
                ),
            ),
            "The model reads text only, not 'image_url', field: 'messages[0].content[1]'",
        ),
        (message("tool", "42"), "Field required, field: 'messages[0].tool_call_id'"),
        (
            ChatMessage(role=Role.ROLE_USER, content=TEXT, tool_calls=[CALL]),
            "Only an assistant's message may have tool calls, field: 'messages[0].tool_calls'",
        ),
        (
            ChatMessage(role=Role.ROLE_ASSISTANT, tool_calls=[ToolCall(id="c")]),
            "Field required, field: 'messages[0].tool_calls[0].function'",
        ),
        (
            ChatMessage(
                role=Role.ROLE_ASSISTANT,
                tool_calls=[ToolCall(function=FunctionCall(name="no spaces"))],
            ),
            (
                "String should match pattern '^[A-Za-z0-9_-]{1,64}$', "
                "field: 'messages[0].tool_calls[0].function.name'"
            ),
        ),
        (
            ChatMessage(role=Role.ROLE_USER, content=TEXT, name=""),
            "String should match pattern '^[A-Za-z0-9_-]{1,64}$', field: 'messages[0].name'",
        ),
    ],
)
def test_bad_messages(bad: ChatMessage, expected: str) -> None:
    """What is wrong with a message is reported with its path."""
    assert violations(bad) == [expected]


def test_path_has_the_place() -> None:
    """The path names which message is wrong."""
    (expected,) = violations(message("user", "Hi"), message("user", None))
    assert expected == "Field required, field: 'messages[1].content'"
