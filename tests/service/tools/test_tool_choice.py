from __future__ import annotations

from typing import Any

import pytest

from rapport.service.tools.tool_choice import (
    NO_PARAMETERS,
    NO_TOOLS,
    Function,
    ToolPolicy,
    parse_tool_policy,
)
from rapport.v1.tool_pb2 import (
    FunctionCallChoice,
    FunctionCallMode,
    FunctionDefinition,
    FunctionName,
    NamedToolChoice,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)
from tests.service.requests import chat

F = FunctionDefinition(name="f", description="Does f.", parameters='{"type": "object"}')
G = FunctionDefinition(name="g", strict=True)
TOOLS = [Tool(function=F), Tool(function=G)]


def use(**fields: Any) -> ToolPolicy:
    return parse_tool_policy(chat(**fields))


def mode(name: str) -> ToolChoice:
    return ToolChoice(mode=ToolChoiceMode.Value(f"TOOL_CHOICE_MODE_{name}"))


def test_functions() -> None:
    """A function has its name, description and parameters; without any it takes none."""
    assert use(tools=TOOLS).functions == (
        Function("f", {"type": "object"}, "tools[0].function.parameters", "Does f."),
        Function("g", NO_PARAMETERS, "tools[1].function.parameters", strict=True),
    )


def test_definitions() -> None:
    """Models see tools in the shape that requests have."""
    f, g = use(tools=TOOLS).definitions
    assert f == {
        "type": "function",
        "function": {"name": "f", "description": "Does f.", "parameters": {"type": "object"}},
    }
    assert list(g["function"]) == ["name", "parameters"]


@pytest.mark.parametrize(
    ("fields", "forced", "parallel", "allowed"),
    [
        ({}, False, True, "fg"),
        ({"tool_choice": mode("UNSPECIFIED")}, False, True, "fg"),
        ({"tool_choice": mode("AUTO")}, False, True, "fg"),
        ({"tool_choice": mode("ANY")}, True, True, "fg"),
        ({"tool_choice": mode("REQUIRED")}, True, True, "fg"),
        ({"tool_choice": mode("REQUIRED"), "parallel_tool_calls": False}, True, False, "fg"),
        ({"parallel_tool_calls": True}, False, True, "fg"),
        ({"parallel_tool_calls": False}, False, False, "fg"),
        ({"tool_choice": ToolChoice(named=NamedToolChoice(name="g"))}, True, False, "g"),
        (
            {"tool_choice": ToolChoice(named=NamedToolChoice(function=FunctionName(name="g")))},
            True,
            False,
            "g",
        ),
    ],
)
def test_choice(fields: dict[str, Any], forced: bool, parallel: bool, allowed: str) -> None:
    """The choice says whether there must be a call, of what, and whether there may be several."""
    tools = use(tools=TOOLS, **fields)
    assert (tools.forced, tools.parallel) == (forced, parallel)
    assert [function.name for function in tools.allowed] == list(allowed)
    assert len(tools.functions) == 2


def test_none() -> None:
    """Tools that must not be called are none."""
    assert use(tools=TOOLS, tool_choice=mode("NONE")) == NO_TOOLS
    none = FunctionCallChoice(mode=FunctionCallMode.FUNCTION_CALL_MODE_NONE)
    assert use(functions=[F], function_call=none) == NO_TOOLS
    assert use() == NO_TOOLS


def test_legacy() -> None:
    """Functions are tools under their old name."""
    tools = use(functions=[F, G])
    assert [function.field for function in tools.functions] == [
        "functions[0].parameters",
        "functions[1].parameters",
    ]
    auto = FunctionCallChoice(mode=FunctionCallMode.FUNCTION_CALL_MODE_AUTO)
    assert use(functions=[F, G], function_call=auto) == tools
    named = use(functions=[F, G], function_call=FunctionCallChoice(named=FunctionName(name="g")))
    assert (named.forced, named.named, named.parallel) == (True, "g", False)
