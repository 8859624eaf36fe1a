from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.prompt.turns import ROLES, Call, Turn, calls_text, to_turn
from rapport.v1.message_pb2 import (
    ChatContent,
    ChatContentParts,
    ChatMessage,
    ChatMessageContent,
    Role,
)
from rapport.v1.tool_pb2 import FunctionCall, ToolCall
from tests.service.requests import message


def call(name: str, arguments: str) -> ToolCall:
    return ToolCall(id="call_1", function=FunctionCall(name=name, arguments=arguments))


def test_every_role_has_a_name() -> None:
    """No role that a request may have is unknown to the template."""
    assert set(ROLES) == set(Role.values()) - {Role.ROLE_UNSPECIFIED}


@pytest.mark.parametrize(
    ("role", "expected"),
    [("user", "user"), ("developer", "system"), ("system", "system"), ("tool", "tool")],
)
def test_roles(role: str, expected: str) -> None:
    """A developer speaks as the system, the others as themselves."""
    assert to_turn(message(role, "Hi")) == Turn(expected, "Hi")


def test_parts_are_joined() -> None:
    """Parts follow each other without anything between."""
    parts = ChatContentParts(items=[ChatMessageContent(text=text) for text in ("a", "", "b\n")])
    said = ChatMessage(role=Role.ROLE_USER, content=ChatContent(parts=parts))
    assert to_turn(said) == Turn("user", "ab\n")


def test_what_is_not_shown() -> None:
    """Names and earlier reasoning are not shown to the model."""
    said = message("assistant", "Hi")
    said.name, said.reasoning_content = "Ada", "Hm."
    assert to_turn(said) == Turn("assistant", "Hi")


def test_calls_are_written_out() -> None:
    """The calls of an assistant's turn stand in its text, each between tags."""
    said = ChatMessage(
        role=Role.ROLE_ASSISTANT, tool_calls=[call("f", '{"x": 1}'), call("g", "{}")]
    )
    assert to_turn(said).content == (
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
    )


@pytest.mark.parametrize(
    ("arguments", "value"),
    [('{"x": [1]}', {"x": [1]}), ("no JSON", "no JSON"), ("[" * 999, "[" * 999)],
)
def test_calls_for_the_template(arguments: str, value: object) -> None:
    """Where the template writes calls, it gets what their JSON says, or text that is no JSON."""
    said = message("assistant", "Let me see.")
    said.tool_calls.append(call("f", arguments))
    turn = to_turn(said, None)
    assert turn == Turn("assistant", "Let me see.", (Call("f", value, "call_1"),))


def test_text_before_calls() -> None:
    """What was said beside the calls comes before them."""
    said = message("assistant", "Let me see.")
    said.tool_calls.append(call("f", "{}"))
    assert to_turn(said).content.startswith("Let me see.\n<tool_call>\n")


@given(st.text(), st.text())
def test_written_calls_lose_nothing(name: str, arguments: str) -> None:
    """Between the tags is JSON that holds name and arguments, whatever they are."""
    text = calls_text([call(name, arguments)])
    written = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    try:
        expected = json.loads(arguments)
    except ValueError:
        expected = arguments
    assert written["name"] == name
    assert repr(written["arguments"]) == repr(expected)


def test_deep_arguments() -> None:
    """Arguments nested too deeply to be read as JSON are kept as text."""
    deep = "[" * 100_000
    assert json.dumps(deep) in calls_text([call("f", deep)])
