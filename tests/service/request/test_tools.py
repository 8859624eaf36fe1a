from __future__ import annotations

from typing import Any

import pytest

from rapport.service.request.rules import run
from rapport.service.request.tools import parse_tool_policy
from rapport.service.tools.tool_choice import NO_PARAMETERS, NO_TOOLS, Function, ToolPolicy
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat, TextFormat
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

AUTO = FunctionCallChoice(mode=FunctionCallMode.FUNCTION_CALL_MODE_AUTO)


def violations_of(**fields: Any) -> list[str]:
    return list(map(str, parse_tool_policy(chat(**fields))))


def function(name: str, parameters: str | None = None) -> FunctionDefinition:
    return FunctionDefinition(name=name, parameters=parameters)


def tools(*functions: FunctionDefinition) -> list[Tool]:
    return [Tool(function=function) for function in functions]


def deep(depth: int) -> str:
    return '{"a": ' + "[" * depth + "]" * depth + "}"


def named(**fields: Any) -> ToolChoice:
    return ToolChoice(named=NamedToolChoice(**fields))


def mode(name: str) -> ToolChoice:
    return ToolChoice(mode=ToolChoiceMode.Value(f"TOOL_CHOICE_MODE_{name}"))


F = tools(function("f"))
JSON = ResponseFormat(json_object=JsonObjectFormat())
NO_CALL = FunctionCallChoice(mode=FunctionCallMode.FUNCTION_CALL_MODE_NONE)
UNKNOWN = "Input should be the name of one of the tools, not 'g'"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": F},
        {"tools": tools(*(function(f"f{number}") for number in range(128)))},
        {"tools": tools(function("a-Z_9" * 12, '{"type": "object", "properties": {}}'))},
        {"tools": tools(function("f", "{}"))},
        {"tools": tools(function("f", deep(98)))},
        {"tools": F, "tool_choice": named(name="f", type="TOOL_TYPE_FUNCTION")},
        {"tools": F, "tool_choice": named(function=FunctionName(name="f"))},
        {"tools": F, "tool_choice": ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_ANY)},
        {"tool_choice": ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_NONE)},
        {"functions": [function("f")], "function_call": AUTO},
        {"functions": [function("f")], "function_call": {"named": FunctionName(name="f")}},
        {"parallel_tool_calls": True},
        {"tools": F, "response_format": ResponseFormat(text=TextFormat())},
        {"tools": F, "tool_choice": mode("NONE"), "response_format": JSON},
        {"functions": [function("f")], "function_call": NO_CALL, "response_format": JSON},
    ],
)
def test_good(fields: dict[str, Any]) -> None:
    """Tools and choices in all their spellings are accepted."""
    assert violations_of(**fields) == []


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "é", "f\n"])
def test_names(name: str) -> None:
    """A function's name is 1 to 64 plain characters."""
    pattern = "^[A-Za-z0-9_-]{1,64}$"
    path = "tools[0].function.name"
    assert violations_of(tools=tools(function(name))) == [
        f"String should match pattern '{pattern}', field: '{path}'"
    ]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("[]", "Input should be a JSON Schema of an object, field: '{}'"),
        ("true", "Input should be a JSON Schema of an object, field: '{}'"),
        ('{"type": "string"}', "Input should be 'object', field: '{}.type'"),
        ('{"type": ["object"]}', "Input should be 'object', field: '{}.type'"),
        ('{"a": "\\ud800"}', "Strings should be valid Unicode, field: '{}'"),
        (deep(500), "Input should be valid JSON, nested at most 100 deep"),
        ("{", "Input should be valid JSON: "),
        ("", "Input should be valid JSON: "),
    ],
)
def test_parameters(parameters: str, expected: str) -> None:
    """Parameters are a JSON Schema of an object."""
    for field, fields in (
        ("tools[0].function.parameters", {"tools": tools(function("f", parameters))}),
        ("functions[0].parameters", {"functions": [function("f", parameters)]}),
    ):
        (violation,) = violations_of(**fields)
        assert violation.startswith(expected.format(field))
        assert f"field: '{field}" in violation


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tools": [Tool()]}, "Field required, field: 'tools[0].type'"),
        (
            {"tools": F * 2},
            "Input should be unique, not 'f' again, field: 'tools[1].function.name'",
        ),
        (
            {"tools": F, "functions": [function("h")]},
            "Input should be unset where 'tools' is set, field: 'functions'",
        ),
        (
            {"tools": F, "function_call": AUTO},
            "Input should be unset where 'tools' is set, field: 'function_call'",
        ),
        (
            {"tools": F, "tool_choice": named(name="g")},
            f"{UNKNOWN}, field: 'tool_choice.name'",
        ),
        (
            {"tools": F, "tool_choice": named(function=FunctionName(name="g"))},
            f"{UNKNOWN}, field: 'tool_choice.function.name'",
        ),
        (
            {"tools": F, "tool_choice": named(name="f", function=FunctionName(name="f"))},
            "Input should be unset where 'tool_choice.function' is set, field: 'tool_choice.name'",
        ),
        (
            {"tools": F, "tool_choice": named()},
            "Field required, field: 'tool_choice.function'",
        ),
        (
            {"tools": F, "tool_choice": named(name="f", type=9)},
            "Input should be 'function', field: 'tool_choice.type'",
        ),
        (
            {"tools": F, "tool_choice": ToolChoice(mode=9)},
            "Input should be 'auto', 'none', 'required' or 'any', field: 'tool_choice'",
        ),
        (
            {"tool_choice": named(name="f")},
            "Input should be 'auto' or 'none' without tools, field: 'tool_choice'",
        ),
        (
            {"functions": [function("f")], "function_call": {"named": FunctionName(name="g")}},
            f"{UNKNOWN}, field: 'function_call.name'",
        ),
        (
            {"function_call": {"named": FunctionName(name="g")}},
            "Input should be 'auto' or 'none' without functions, field: 'function_call'",
        ),
        (
            {"tools": F, "response_format": ResponseFormat(json_object=JsonObjectFormat())},
            "Input should be of type 'text' where 'tools' is set, field: 'response_format'",
        ),
        (
            {"functions": [function("f")], "response_format": ResponseFormat(regex="x")},
            "Input should be of type 'text' where 'functions' is set, field: 'response_format'",
        ),
    ],
)
def test_bad(fields: dict[str, Any], expected: str) -> None:
    """Each rule is reported in its own words."""
    assert violations_of(**fields) == [expected]


DESCRIBED = FunctionDefinition(name="f", description="Does f.", parameters='{"type": "object"}')
STRICT = FunctionDefinition(name="g", strict=True)
TWO = tools(DESCRIBED, STRICT)


def use(**fields: Any) -> ToolPolicy:
    return run(parse_tool_policy(chat(**fields)))


def test_functions() -> None:
    """A function has its name, description and parameters; without any it takes none."""
    assert use(tools=TWO).functions == (
        Function("f", {"type": "object"}, "tools[0].function.parameters", "Does f."),
        Function("g", NO_PARAMETERS, "tools[1].function.parameters", strict=True),
    )


@pytest.mark.parametrize(
    ("fields", "forced", "parallel", "allowed"),
    [
        ({}, False, True, "fg"),
        ({"tool_choice": mode("UNSPECIFIED")}, False, True, "fg"),
        ({"tool_choice": mode("AUTO")}, False, True, "fg"),
        ({"tool_choice": mode("ANY")}, True, False, "fg"),
        ({"tool_choice": mode("REQUIRED")}, True, False, "fg"),
        ({"tool_choice": mode("REQUIRED"), "parallel_tool_calls": True}, True, True, "fg"),
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
def test_policy(fields: dict[str, Any], forced: bool, parallel: bool, allowed: str) -> None:
    """The choice says whether there must be a call, of what, and whether there may be several."""
    tools = use(tools=TWO, **fields)
    assert (tools.forced, tools.parallel) == (forced, parallel)
    assert [function.name for function in tools.allowed] == list(allowed)
    assert len(tools.functions) == 2


def test_no_tools() -> None:
    """Tools that must not be called are none."""
    assert use(tools=TWO, tool_choice=mode("NONE")) == NO_TOOLS
    none = FunctionCallChoice(mode=FunctionCallMode.FUNCTION_CALL_MODE_NONE)
    assert use(functions=[DESCRIBED], function_call=none) == NO_TOOLS
    assert use() == NO_TOOLS


def test_legacy() -> None:
    """Functions are tools under their old name."""
    tools = use(functions=[DESCRIBED, STRICT])
    assert [function.field for function in tools.functions] == [
        "functions[0].parameters",
        "functions[1].parameters",
    ]
    auto = FunctionCallChoice(mode=FunctionCallMode.FUNCTION_CALL_MODE_AUTO)
    assert use(functions=[DESCRIBED, STRICT], function_call=auto) == tools
    named = use(
        functions=[DESCRIBED, STRICT],
        function_call=FunctionCallChoice(named=FunctionName(name="g")),
    )
    assert (named.forced, named.named, named.parallel) == (True, "g", False)
