"""The contract's rules for tools and the choice among them."""

from __future__ import annotations

import re

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.request.rules import Violations, known, matches, required
from rapport.service.structured_output.json_schema.grammar import dump_schema
from rapport.service.structured_output.strict_json import parse_json
from rapport.service.tools.tool_choice import chosen_name, function_definitions
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.tool_pb2 import (
    FunctionCallMode,
    FunctionDefinition,
    NamedToolChoice,
    ToolChoiceMode,
    ToolType,
)

NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
# Each in its present spelling and in the legacy one.
SPELLINGS = (("tools", "functions"), ("tool_choice", "function_call"))
UNFORCED = (
    ToolChoiceMode.TOOL_CHOICE_MODE_UNSPECIFIED,
    ToolChoiceMode.TOOL_CHOICE_MODE_AUTO,
    ToolChoiceMode.TOOL_CHOICE_MODE_NONE,
)


def tool_violations(request: CreateChatCompletionRequest) -> Violations:
    """Whatever is wrong with tools."""
    for index, tool in enumerate(request.tools):
        yield from required(f"tools[{index}].type", given=tool.HasField("function"))
    yield from functions_violations(list(function_definitions(request)))
    yield from spelling_violations(request)
    yield from choice_violations(request)
    yield from legacy_choice_violations(request)
    yield from format_violations(request)


def functions_violations(functions: list[tuple[str, FunctionDefinition]]) -> Violations:
    names: set[str] = set()
    for path, function in functions:
        yield from matches(f"{path}.name", function.name, NAME)
        if function.name in names:
            yield FieldViolation(
                f"{path}.name", f"Input should be unique, not '{function.name}' again"
            )
        names.add(function.name)
        yield from parameters_violations(f"{path}.parameters", function)


def parameters_violations(path: str, function: FunctionDefinition) -> Violations:
    """A JSON Schema of an object; whether it can be enforced is found out where it has to be."""
    if not function.HasField("parameters"):
        return
    try:
        schema = parse_json(function.parameters, path)
        dump_schema(schema, path)
    except InvalidRequestError as error:
        yield from error.violations
        return
    if not isinstance(schema, dict):
        yield FieldViolation(path, "Input should be a JSON Schema of an object")
    elif schema.get("type", "object") != "object":
        yield FieldViolation(f"{path}.type", "Input should be 'object'")


def spelling_violations(request: CreateChatCompletionRequest) -> Violations:
    """One request speaks either of tools or, as was done before, of functions."""
    present = [tools for tools, _ in SPELLINGS if given(request, tools)]
    legacy = [functions for _, functions in SPELLINGS if given(request, functions)]
    for field in legacy if present else ():
        yield FieldViolation(field, f"Input should be unset where '{present[0]}' is set")


def choice_violations(request: CreateChatCompletionRequest) -> Violations:
    """A call cannot be forced of tools that are not there."""
    choice = request.tool_choice
    yield from known("tool_choice", choice.mode, ToolChoiceMode.DESCRIPTOR)
    named = choice.HasField("named")
    if (named or choice.mode not in UNFORCED) and not request.tools:
        yield FieldViolation("tool_choice", "Input should be 'auto' or 'none' without tools")
    elif named:
        names = {tool.function.name for tool in request.tools}
        yield from named_violations(choice.named, names)


def named_violations(choice: NamedToolChoice, names: set[str]) -> Violations:
    yield from known("tool_choice.type", choice.type, ToolType.DESCRIPTOR)
    long, short = choice.HasField("function"), choice.HasField("name")
    if long and short:
        told = "Input should be unset where 'tool_choice.function' is set"
        yield FieldViolation("tool_choice.name", told)
    elif long or short:
        field = "tool_choice.function.name" if long else "tool_choice.name"
        yield from known_name(field, chosen_name(choice), names)
    else:
        yield from required("tool_choice.function", given=False)


def legacy_choice_violations(request: CreateChatCompletionRequest) -> Violations:
    choice = request.function_call
    yield from known("function_call", choice.mode, FunctionCallMode.DESCRIPTOR)
    if not choice.HasField("named"):
        return
    if request.functions:
        names = {function.name for function in request.functions}
        yield from known_name("function_call.name", choice.named.name, names)
    else:
        yield FieldViolation("function_call", "Input should be 'auto' or 'none' without functions")


def format_violations(request: CreateChatCompletionRequest) -> Violations:
    """Calls have a form of their own."""
    constrained = request.response_format.WhichOneof("kind") not in (None, "text")
    field = next((name for name in ("tools", "functions") if given(request, name)), None)
    if constrained and field:
        told = f"Input should be of type 'text' where '{field}' is set"
        yield FieldViolation("response_format", told)


def known_name(field: str, name: str, names: set[str]) -> Violations:
    if name not in names:
        yield FieldViolation(field, f"Input should be the name of one of the tools, not '{name}'")


def given(request: CreateChatCompletionRequest, field: str) -> bool:
    return any(descriptor.name == field for descriptor, _ in request.ListFields())
