from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rapport.service.errors import InvalidRequestError
from rapport.service.request.limits import MAX_PIECES, check_sizes
from rapport.service.request.parse import parse_chat_request
from rapport.service.request.rules import limits_of
from rapport.v1.chat_pb2 import (
    CreateChatCompletionRequest,
    Prediction,
    Speculation,
    StopList,
    TokenIds,
)
from rapport.v1.message_pb2 import ChatContent, ChatContentParts, ChatMessage, ChatMessageContent
from rapport.v1.tokenize_pb2 import TokenizeRequest
from rapport.v1.tool_pb2 import FunctionCall, FunctionDefinition, Tool, ToolCall
from tests.service.requests import MODEL, chat, user

PAGE = Path(__file__).parents[3].joinpath("docs/reference/limits.md").read_text(encoding="utf-8")
MAX_CHARS = 1_000_000
MAX_PARTS = 1_000
LONG = "x" * 1025


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
    (lambda n: {"messages": [user("")] * n}, 10_000, "messages"),
    (lambda n: {"messages": [said(n)]}, MAX_PARTS, "messages[0].content"),
    (lambda n: {"messages": [user(""), calling(n)]}, 128, "messages[1].tool_calls"),
    (lambda n: {"tools": tools(n)}, 128, "tools"),
    (lambda n: {"functions": functions(n)}, 128, "functions"),
    (lambda n: {"logit_bias": dict.fromkeys(range(n), 0.0)}, 4_096, "logit_bias"),
    (lambda n: {"metadata": {str(key): "" for key in range(n)}}, 64, "metadata"),
    (
        lambda n: {"speculation": Speculation(token_ids=TokenIds(items=[1] * n))},
        100_000,
        "speculation",
    ),
    (lambda n: {"prediction": Prediction(content=parts(n))}, MAX_PARTS, "prediction.content"),
]


@pytest.mark.parametrize(("fields", "most", "field"), LISTS)
def test_lists(fields: Any, most: int, field: str) -> None:
    """A list may be so long and no longer; it is named."""
    check_sizes(chat(**fields(most)))
    text = f"List should have at most {most} items after validation, not {most + 1}"
    with pytest.raises(InvalidRequestError) as raised:
        check_sizes(chat(**fields(most + 1)))
    assert str(raised.value) == f"{text}, field: '{field}'"


def test_parts_together() -> None:
    """Many lists of a fit size may still be too much together."""
    full = MAX_PIECES // MAX_PARTS
    check_sizes(chat(messages=[said(MAX_PARTS)] * full))
    with pytest.raises(
        InvalidRequestError, match="at most 20000 parts and tool calls together, not"
    ):
        check_sizes(chat(messages=[*[said(MAX_PARTS)] * full, calling(1)]))


@pytest.mark.parametrize("fields", [{"messages": [user("")] * 10_001}, {"tools": tools(129)}])
def test_tokenize(fields: Any) -> None:
    """Requests for tokens are bounded alike."""
    with pytest.raises(InvalidRequestError, match="List should have at most"):
        check_sizes(TokenizeRequest(model=MODEL, **fields))


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
            call(arguments="1" * (MAX_CHARS + 1)),
            "1000000 characters, field: 'messages[0].tool_calls[0].function.arguments'",
        ),
        (
            chat(speculation=Speculation(text="x" * (MAX_CHARS + 1))),
            "1000000 characters, field: 'speculation'",
        ),
        (
            chat(prediction=Prediction(content=ChatContent(text="x" * (MAX_CHARS + 1)))),
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
        parse_chat_request(request_, vocabulary_size=1000, streaming=False)
    assert str(raised.value).endswith(expected)


@pytest.mark.parametrize(
    ("row", "limits"),
    [
        ("`messages`", [limits_of(CreateChatCompletionRequest, "messages").max_items]),
        (
            "parts of a content, tool calls of a message",
            [
                limits_of(ChatContentParts, "items").max_items,
                limits_of(ChatMessage, "tool_calls").max_items,
                MAX_PIECES,
            ],
        ),
        ("`tools`, `functions`", [limits_of(CreateChatCompletionRequest, "tools").max_items]),
        ("`logit_bias`", [limits_of(CreateChatCompletionRequest, "logit_bias").max_items]),
        (
            "`metadata`",
            [
                limits_of(CreateChatCompletionRequest, "metadata").max_items,
                limits_of(CreateChatCompletionRequest, "metadata").max_length,
            ],
        ),
        (
            "`prediction`, `speculation`, arguments of a call",
            [
                limits_of(Speculation, "text").max_length,
                limits_of(FunctionCall, "arguments").max_length,
                limits_of(TokenIds, "items").max_items,
            ],
        ),
        (
            "`user`, cache keys, ids of calls",
            [
                limits_of(CreateChatCompletionRequest, "user").max_length,
                limits_of(ToolCall, "id").max_length,
            ],
        ),
        (
            "`stop`",
            [limits_of(StopList, "items").max_items, limits_of(StopList, "items").max_length],
        ),
        (
            "`n`, `top_logprobs`, `logprobs`",
            [
                int(limits_of(CreateChatCompletionRequest, "n").maximum),
                int(limits_of(CreateChatCompletionRequest, "top_logprobs").maximum),
            ],
        ),
        ("`POST /v1/tokenize`", [limits_of(TokenizeRequest, "text").max_length]),
    ],
)
def test_documentation(row: str, limits: list[int]) -> None:
    """The page of limits has those of the protos."""
    (text,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row} |")]
    _, _, documented, *_ = text.split("|")
    assert {f"{limit:,}" for limit in limits} <= set(re.findall(r"\d[\d,]*\d|\d", documented))
