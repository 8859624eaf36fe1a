from __future__ import annotations

from typing import Any

import pytest

from rapport.service.errors import InvalidRequestError
from rapport.service.request.fields import check
from rapport.service.request.limits import (
    LABEL_LENGTH,
    MOST_BIASES,
    MOST_CALLS,
    MOST_CHARACTERS,
    MOST_FORETOLD,
    MOST_MESSAGES,
    MOST_METADATA,
    MOST_PARTS,
    MOST_PIECES,
    MOST_TOOLS,
    check_size,
)
from rapport.v1.chat_pb2 import CreateChatCompletionRequest, Prediction, Speculation, TokenIds
from rapport.v1.message_pb2 import ChatContent, ChatContentParts, ChatMessage, ChatMessageContent
from rapport.v1.tokenize_pb2 import TokenizeRequest
from rapport.v1.tool_pb2 import FunctionCall, FunctionDefinition, Tool, ToolCall
from tests.service.requests import MODEL, chat, user

LONG = "x" * (LABEL_LENGTH + 1)


def parts(count: int) -> ChatContent:
    return ChatContent(parts=ChatContentParts(items=[ChatMessageContent(text="x")] * count))


def said(count: int) -> ChatMessage:
    return ChatMessage(role="ROLE_USER", content=parts(count))


def calling(count: int) -> ChatMessage:
    function = FunctionCall(name="f", arguments="{}")
    return ChatMessage(role="ROLE_ASSISTANT", tool_calls=[ToolCall(function=function)] * count)


def functions(count: int) -> list[FunctionDefinition]:
    return [FunctionDefinition(name=f"f{number}") for number in range(count)]


def tools(count: int) -> list[Tool]:
    return [Tool(function=function) for function in functions(count)]


# Each as a function of how many there are.
LISTS = [
    (lambda n: {"messages": [user("")] * n}, MOST_MESSAGES, "messages"),
    (lambda n: {"messages": [said(n)]}, MOST_PARTS, "messages[0].content"),
    (lambda n: {"messages": [user(""), calling(n)]}, MOST_CALLS, "messages[1].tool_calls"),
    (lambda n: {"tools": tools(n)}, MOST_TOOLS, "tools"),
    (lambda n: {"functions": functions(n)}, MOST_TOOLS, "functions"),
    (lambda n: {"logit_bias": dict.fromkeys(range(n), 0.0)}, MOST_BIASES, "logit_bias"),
    (lambda n: {"metadata": {str(key): "" for key in range(n)}}, MOST_METADATA, "metadata"),
    (
        lambda n: {"speculation": Speculation(token_ids=TokenIds(items=[1] * n))},
        MOST_FORETOLD,
        "speculation",
    ),
    (lambda n: {"prediction": Prediction(content=parts(n))}, MOST_PARTS, "prediction.content"),
]


@pytest.mark.parametrize(("fields", "most", "field"), LISTS)
def test_lists(fields: Any, most: int, field: str) -> None:
    """A list may be so long and no longer; it is named."""
    check_size(chat(**fields(most)))
    told = f"List should have at most {most} items after validation, not {most + 1}"
    with pytest.raises(InvalidRequestError) as raised:
        check_size(chat(**fields(most + 1)))
    assert str(raised.value) == f"{told}, field: '{field}'"


def test_parts_together() -> None:
    """Many lists of a fit size may still be too much together."""
    full = MOST_PIECES // MOST_PARTS
    check_size(chat(messages=[said(MOST_PARTS)] * full))
    with pytest.raises(
        InvalidRequestError, match="at most 20000 parts and tool calls together, not"
    ):
        check_size(chat(messages=[*[said(MOST_PARTS)] * full, calling(1)]))


@pytest.mark.parametrize(
    "fields", [{"messages": [user("")] * (MOST_MESSAGES + 1)}, {"tools": tools(MOST_TOOLS + 1)}]
)
def test_tokenize(fields: Any) -> None:
    """Requests for tokens are bounded alike."""
    with pytest.raises(InvalidRequestError, match="List should have at most"):
        check_size(TokenizeRequest(model=MODEL, **fields))


def call(**fields: str) -> CreateChatCompletionRequest:
    function = FunctionCall(name="f", arguments=fields.pop("arguments", "{}"))
    message = ChatMessage(role="ROLE_ASSISTANT", tool_calls=[ToolCall(function=function, **fields)])
    return chat(messages=[message])


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (chat(metadata={LONG: ""}), f"1024 characters, field: 'metadata.{LONG[:287]} ...'"),
        (chat(metadata={"a": LONG}), "1024 characters, field: 'metadata.a'"),
        (call(id=LONG), "1024 characters, field: 'messages[0].tool_calls[0].id'"),
        (
            call(arguments="1" * (MOST_CHARACTERS + 1)),
            "1000000 characters, field: 'messages[0].tool_calls[0].function.arguments'",
        ),
        (
            chat(speculation=Speculation(text="x" * (MOST_CHARACTERS + 1))),
            "1000000 characters, field: 'speculation'",
        ),
        (
            chat(prediction=Prediction(content=ChatContent(text="x" * (MOST_CHARACTERS + 1)))),
            "1000000 characters, field: 'prediction.content'",
        ),
        (
            chat(
                messages=[ChatMessage(role="ROLE_TOOL", content=parts(1), tool_call_id=LONG)],
            ),
            "1024 characters, field: 'messages[0].tool_call_id'",
        ),
    ],
)
def test_texts(request_: CreateChatCompletionRequest, expected: str) -> None:
    """Texts that no context bounds have bounds of their own."""
    with pytest.raises(InvalidRequestError) as raised:
        check(request_, model=MODEL, vocabulary_size=1000, streaming=False)
    assert str(raised.value).endswith(expected)
