"""Tools and formats with the real engine, tokenizer and template, and a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import validate

from rapport.v1.chat_pb2 import Choice, ChoiceDelta, CreateChatCompletionRequest, FinishReason
from rapport.v1.format_pb2 import ResponseFormat
from rapport.v1.logprobs_pb2 import LogprobsRequest
from rapport.v1.message_pb2 import ChatMessage, Role
from rapport.v1.tool_pb2 import (
    FunctionDefinition,
    NamedToolChoice,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from tests.service.joining import joined
from tests.service.requests import chat, message, user

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def model_folder(small_folder: Path) -> Path:
    return small_folder


WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TIME = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, "required": ["zone"]}
SCHEMAS = {"get_weather": WEATHER, "get_time": TIME}
TOOLS = [
    Tool(function=FunctionDefinition(name=name, parameters=json.dumps(schema)))
    for name, schema in SCHEMAS.items()
]
REQUIRED = ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED)
WEATHER_ONLY = ToolChoice(named=NamedToolChoice(name="get_weather"))
CALLS = FinishReason.FINISH_REASON_TOOL_CALLS
ASKED = "What is the weather in Paris?"


def asking(*texts: str, **fields: Any) -> CreateChatCompletionRequest:
    given = {"tools": TOOLS, "max_tokens": 100, "seed": 7}
    return chat(*(texts or (ASKED,)), **(given | fields))


async def whole(stub: ChatServiceAsyncStub, request: CreateChatCompletionRequest) -> list[Choice]:
    return list((await stub.CreateChatCompletion(request)).choices)


async def streamed(
    stub: ChatServiceAsyncStub, request: CreateChatCompletionRequest
) -> list[Choice]:
    pieces: list[ChoiceDelta] = []
    async for piece in stub.StreamChatCompletion(request):
        pieces.extend(piece.choices)
    return [joined(index, pieces) for index in range(request.n or 1)]


def without_ids(choices: list[Choice]) -> list[Choice]:
    for choice in choices:
        for call in choice.message.tool_calls:
            call.id = ""
    return choices


def check_calls(choice: Choice) -> None:
    """All calls of the choice keep to their schemas."""
    for call in choice.message.tool_calls:
        validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


@pytest.mark.parametrize("temperature", [0, 1.5])
async def test_named(stub: ChatServiceAsyncStub, temperature: float) -> None:
    """A named tool is called once, with arguments that keep to its schema."""
    fields = {"tool_choice": WEATHER_ONLY, "temperature": temperature, "n": 2}
    for choice in await whole(stub, asking(**fields)):
        assert [call.function.name for call in choice.message.tool_calls] == ["get_weather"]
        assert choice.finish_reason == CALLS
        assert not choice.message.HasField("content")
        check_calls(choice)


@pytest.mark.parametrize("parallel", [True, False])
async def test_required(stub: ChatServiceAsyncStub, parallel: bool) -> None:
    """A required call is of one of the tools; there is but one unless there may be several."""
    fields = {"tool_choice": REQUIRED, "parallel_tool_calls": parallel, "n": 2}
    for choice in await whole(stub, asking(**fields)):
        calls = choice.message.tool_calls
        assert len(calls) >= 1 if parallel else len(calls) == 1
        if choice.finish_reason == CALLS:
            check_calls(choice)
        assert not choice.message.content


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": WEATHER_ONLY, "temperature": 0},
        {"tool_choice": REQUIRED, "temperature": 1.5, "max_tokens": 50},
        {"tool_choice": REQUIRED, "max_tokens": 25},
        {"temperature": 0.5, "max_tokens": 40},
        {
            "tool_choice": WEATHER_ONLY,
            "logprobs": LogprobsRequest(enabled=True),
            "return_token_ids": True,
            "raw_output": True,
        },
    ],
)
async def test_stream_is_the_whole(stub: ChatServiceAsyncStub, fields: dict[str, Any]) -> None:
    """Joined, a stream's fragments are the unary answer, but for the ids of its calls."""
    request = asking(n=2, **fields)
    expected = without_ids(await whole(stub, request))
    assert without_ids(await streamed(stub, request)) == expected


async def test_logprobs_cover_all_tokens(stub: ChatServiceAsyncStub) -> None:
    """Tokens of markup have log probabilities like others."""
    fields = {"logprobs": LogprobsRequest(enabled=True), "raw_output": True, "temperature": 0}
    (choice,) = await whole(stub, asking(tool_choice=WEATHER_ONLY, **fields))
    said = "".join(each.token for each in choice.logprobs.present.content)
    assert said.startswith('<tool_call>\n{"name": "get_weather", "arguments": {')
    assert choice.raw_output.completion.startswith(said)


async def test_cut(stub: ChatServiceAsyncStub) -> None:
    """A forced call that is cut ends for its length, without any of its markup as content."""
    for most in (1, 5, 12, 20, 30):
        (choice,) = await whole(stub, asking(tool_choice=WEATHER_ONLY, max_tokens=most))
        if choice.finish_reason != CALLS:
            assert choice.finish_reason == FinishReason.FINISH_REASON_LENGTH
        assert not choice.message.content


async def test_auto(stub: ChatServiceAsyncStub) -> None:
    """Left to itself, the model says something, and what it calls keeps to the schemas."""
    for choice in await whole(stub, asking(n=2, temperature=1, max_tokens=40)):
        assert choice.message.content or choice.message.tool_calls
        if choice.finish_reason == CALLS:
            check_calls(choice)


async def test_round_trip(stub: ChatServiceAsyncStub) -> None:
    """A call and its result go back into the conversation, which goes on."""
    (called,) = await whole(stub, asking(tool_choice=WEATHER_ONLY, temperature=0))
    (call,) = called.message.tool_calls
    result = message("tool", '{"temperature": 21}')
    result.tool_call_id = call.id
    turn = ChatMessage(role=Role.ROLE_ASSISTANT, tool_calls=[call])
    messages = [user(ASKED), turn, result]
    (answer,) = await whole(stub, asking(messages=messages, temperature=0))
    assert answer.message.content or answer.message.tool_calls


@pytest.mark.parametrize("temperature", [0, 1.5])
async def test_json_schema(stub: ChatServiceAsyncStub, temperature: float) -> None:
    """An answer in a schema is valid, streamed as well as whole."""
    wanted = ResponseFormat(json_schema=json.dumps({"name": "weather", "schema": WEATHER}))
    fields = {"response_format": wanted, "temperature": temperature, "tools": []}
    (choice,) = await whole(stub, asking("The weather in Paris, as JSON.", **fields))
    validate(json.loads(choice.message.content), WEATHER)
    assert choice.finish_reason == FinishReason.FINISH_REASON_STOP
    (again,) = await streamed(stub, asking("The weather in Paris, as JSON.", **fields))
    assert again == choice
