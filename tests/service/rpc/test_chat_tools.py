from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from rapport.service.lifecycle import Lifecycle
from rapport.service.tools.call_format import MISTRAL
from rapport.v1.chat_pb2 import CreateChatCompletionRequest, FinishReason, StreamOptions
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat
from rapport.v1.tool_pb2 import (
    FunctionCallChoice,
    FunctionDefinition,
    FunctionName,
    NamedToolChoice,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import chat
from tests.service.tools.calls import hermes_call

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub

FUNCTION = FunctionDefinition(name="f", parameters='{"properties": {"x": {}}}')
TOOLS = [Tool(function=FUNCTION)]
NONE = ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_NONE)
CALL = hermes_call("f", '{"x": 1}')
CALLS = FinishReason.FINISH_REASON_TOOL_CALLS


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> ChatServiceAsyncStub:
    return ChatServiceStub(channel)


def asking(**fields: Any) -> CreateChatCompletionRequest:
    return chat(**({"tools": TOOLS} | fields))


async def test_call(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """Text in the form of a call comes out as a call, and the answer ends for it."""
    engine.script = [says(0, "Hm.\n"), says(0, CALL[:30]), says(0, CALL[30:]), ends(0)]
    (choice,) = (await stub.CreateChatCompletion(asking())).choices
    (call,) = choice.message.tool_calls
    assert (choice.message.content, choice.finish_reason) == ("Hm.", CALLS)
    assert (call.function.name, call.function.arguments) == ("f", '{"x": 1}')


async def test_calls_in_the_models_own_format(
    stub: ChatServiceAsyncStub, engine: ScriptedEngine, lifecycle: Lifecycle
) -> None:
    """What the model's template shows is what its grammar admits and its answers are read by."""
    lifecycle.served.prompts.call_format = MISTRAL  # type: ignore[misc]
    text = MISTRAL.write([("f", '{"x": 1}'), ("f", "{}")])
    engine.script = [says(0, "Hm. "), *(says(0, letter) for letter in text), ends(0)]
    (choice,) = (await stub.CreateChatCompletion(asking())).choices
    assert (choice.message.content, choice.finish_reason) == ("Hm.", CALLS)
    calls = [call.function for call in choice.message.tool_calls]
    assert [(call.name, call.arguments) for call in calls] == [("f", '{"x": 1}'), ("f", "{}")]
    (request,) = engine.requests
    assert request.grammar is not None
    assert r"\[TOOL_CALLS\]" in request.grammar.source


async def test_stream(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """Calls come in fragments; the reason comes after them, with an empty delta, and usage."""
    engine.script = [*(says(0, letter) for letter in CALL), ends(0)]
    request = asking(stream_options=StreamOptions(include_usage=False))
    pieces = [piece async for piece in stub.StreamChatCompletion(request)]
    choices = [piece.choices[0] for piece in pieces]
    fragments = [choice.delta.tool_calls[0] for choice in choices if choice.delta.tool_calls]
    assert "".join(each.function.arguments for each in fragments) == '{"x": 1}'
    assert [each.index for each in fragments] == [0] * len(fragments)
    assert [bool(each.id) for each in fragments] == [True] + [False] * (len(fragments) - 1)
    assert not any(choice.delta.HasField("content") for choice in choices)
    assert choices[-1].finish_reason == CALLS
    assert not choices[-1].delta.ListFields()
    assert pieces[-1].HasField("usage")


async def test_choices_have_calls_of_their_own(
    stub: ChatServiceAsyncStub, engine: ScriptedEngine
) -> None:
    """Each of the n choices counts its own calls, under ids of their own."""
    engine.script = [says(0, CALL), says(1, CALL[:5]), ends(0), says(1, CALL[5:]), ends(1)]
    choices = (await stub.CreateChatCompletion(asking(n=2))).choices
    calls = [choice.message.tool_calls[0] for choice in choices]
    assert [call.index for call in calls] == [0, 0]
    assert calls[0].id != calls[1].id


async def test_tokens_and_raw_output(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """Tokens of markup are reported like others, and raw output has the grammar."""
    engine.vocabulary.spell = lambda tokens: "x" * len(tuple(tokens))
    engine.script = [*(says(0, letter) for letter in CALL), ends(0)]
    asked = asking(return_token_ids=True, raw_output=True)
    (choice,) = (await stub.CreateChatCompletion(asked)).choices
    assert len(choice.token_ids) == len(CALL) + 1
    assert choice.raw_output.grammar.startswith("start: TEXT | ")
    assert list(choice.raw_output.completion_token_ids) == list(choice.token_ids)


@pytest.mark.parametrize(
    ("fields", "forced"),
    [
        ({}, False),
        ({"parallel_tool_calls": False}, False),
        ({"tool_choice": ToolChoice(named=NamedToolChoice(name="f"))}, True),
        ({"tools": [], "functions": [FUNCTION]}, False),
        (
            {
                "tools": [],
                "functions": [FUNCTION],
                "function_call": FunctionCallChoice(named=FunctionName(name="f")),
            },
            True,
        ),
    ],
)
async def test_engine_gets_tools(
    stub: ChatServiceAsyncStub,
    engine: ScriptedEngine,
    lifecycle: Lifecycle,
    fields: dict[str, Any],
    forced: bool,
) -> None:
    """The prompt tells of the tools, and a grammar holds to them."""
    engine.script = [ends(0)]
    await stub.CreateChatCompletion(asking(**fields))
    (request,) = engine.requests
    assert request.grammar is not None
    assert ("TEXT" not in request.grammar.source) == forced
    assert bool(lifecycle.served.prompts.options["tools"])  # type: ignore[attr-defined]


async def test_none(
    stub: ChatServiceAsyncStub, engine: ScriptedEngine, lifecycle: Lifecycle
) -> None:
    """Where tools must not be called, the model does not hear of them, and text is text."""
    engine.script = [says(0, CALL), ends(0)]
    (choice,) = (await stub.CreateChatCompletion(asking(tool_choice=NONE))).choices
    assert (choice.message.content, len(choice.message.tool_calls)) == (CALL, 0)
    assert engine.requests[0].grammar is None
    assert not lifecycle.served.prompts.options["tools"]  # type: ignore[attr-defined]


async def test_format(stub: ChatServiceAsyncStub, engine: ScriptedEngine) -> None:
    """A response format becomes a grammar too."""
    engine.script = [ends(0)]
    wanted = ResponseFormat(json_object=JsonObjectFormat())
    await stub.CreateChatCompletion(chat(response_format=wanted))
    assert engine.requests[0].grammar is not None
    assert engine.requests[0].grammar.source == "json_object"
