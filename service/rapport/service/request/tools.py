"""Parses the tools of a request and the choice among them.

A request has tools in the current form (`tools`, `tool_choice`) or in the legacy form
(`functions`, `function_call`). Both become the same `ToolPolicy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.request.rules import (
    Parser,
    Violations,
    check_enum,
    check_given,
    check_pattern,
    limits_of,
)
from rapport.service.structured_output.strict_json import parse_json
from rapport.service.tools.tool_choice import (
    NO_PARAMETERS,
    NO_TOOLS,
    Function,
    JsonObject,
    ToolPolicy,
)
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.tool_pb2 import (
    FunctionCallMode,
    FunctionDefinition,
    NamedToolChoice,
    Tool,
    ToolChoiceMode,
    ToolType,
)

FUNCTION_NAME = limits_of(FunctionDefinition, "name")
# The current name of a field and its legacy name.
SPELLINGS = (("tools", "functions"), ("tool_choice", "function_call"))
UNFORCED_MODES = (
    ToolChoiceMode.TOOL_CHOICE_MODE_UNSPECIFIED,
    ToolChoiceMode.TOOL_CHOICE_MODE_AUTO,
    ToolChoiceMode.TOOL_CHOICE_MODE_NONE,
)


def parse_tool_policy(request: CreateChatCompletionRequest) -> Parser[ToolPolicy]:
    """The tools of a request and how the model may call them; `NO_TOOLS` if it may not."""
    functions = yield from parse_functions(request.tools, request.functions)
    yield from _spelling_violations(request)
    yield from _choice_violations(request)
    yield from _legacy_choice_violations(request)
    yield from _format_violations(request)
    if _calls_are_forbidden(request):
        return NO_TOOLS
    named = _named_function(request)
    forced = named is not None or request.tool_choice.mode not in UNFORCED_MODES
    # A small model that has to call would otherwise do so until max_tokens cuts a call in two.
    parallel = not forced
    if request.HasField("parallel_tool_calls"):
        parallel = request.parallel_tool_calls
    return ToolPolicy(functions, forced=forced, named=named, parallel=parallel and named is None)


def parse_functions(
    tools: Sequence[Tool], legacy_functions: Sequence[FunctionDefinition] = ()
) -> Parser[tuple[Function, ...]]:
    """The functions of a request, in the current and the legacy form."""
    for index, tool in enumerate(tools):
        yield from check_given(f"tools[{index}].type", given=tool.HasField("function"))
    functions: dict[str, Function] = {}
    for path, definition in _definitions(tools, legacy_functions):
        name = definition.name
        yield from check_pattern(f"{path}.name", name, FUNCTION_NAME)
        if name in functions:
            yield FieldViolation(f"{path}.name", f"Input should be unique, not '{name}' again")
        functions[name] = yield from _parse_function(path, definition)
    return tuple(functions.values())


def _definitions(
    tools: Iterable[Tool], legacy_functions: Iterable[FunctionDefinition]
) -> Iterator[tuple[str, FunctionDefinition]]:
    """The definitions with their field paths."""
    for index, tool in enumerate(tools):
        if tool.HasField("function"):
            yield f"tools[{index}].function", tool.function
    for index, function in enumerate(legacy_functions):
        yield f"functions[{index}]", function


def _parse_function(path: str, definition: FunctionDefinition) -> Parser[Function]:
    field = f"{path}.parameters"
    parameters = NO_PARAMETERS
    if definition.HasField("parameters"):
        parameters = yield from _parse_parameters(field, definition.parameters)
    return Function(
        name=definition.name,
        parameters=parameters,
        field=field,
        description=definition.description if definition.HasField("description") else None,
        strict=definition.strict,
    )


def _parse_parameters(field: str, text: str) -> Parser[JsonObject]:
    """A JSON Schema of an object. Only the grammar compiler finds out if it can be enforced."""
    try:
        schema: Any = parse_json(text, field)
    except InvalidRequestError as error:
        yield from error.violations
        return NO_PARAMETERS
    if not isinstance(schema, dict):
        yield FieldViolation(field, "Input should be a JSON Schema of an object")
        return NO_PARAMETERS
    if schema.get("type", "object") != "object":
        yield FieldViolation(f"{field}.type", "Input should be 'object'")
    return schema


def _spelling_violations(request: CreateChatCompletionRequest) -> Violations:
    """A request has either tools or functions."""
    current = [tools for tools, _ in SPELLINGS if _is_given(request, tools)]
    legacy = [functions for _, functions in SPELLINGS if _is_given(request, functions)]
    for field in legacy if current else ():
        yield FieldViolation(field, f"Input should be unset where '{current[0]}' is set")


def _choice_violations(request: CreateChatCompletionRequest) -> Violations:
    choice = request.tool_choice
    yield from check_enum("tool_choice", choice.mode, ToolChoiceMode.DESCRIPTOR)
    named = choice.HasField("named")
    if (named or choice.mode not in UNFORCED_MODES) and not request.tools:
        yield FieldViolation("tool_choice", "Input should be 'auto' or 'none' without tools")
    elif named:
        names = {tool.function.name for tool in request.tools}
        yield from _named_choice_violations(choice.named, names)


def _named_choice_violations(choice: NamedToolChoice, names: set[str]) -> Violations:
    yield from check_enum("tool_choice.type", choice.type, ToolType.DESCRIPTOR)
    long, short = choice.HasField("function"), choice.HasField("name")
    if long and short:
        text = "Input should be unset where 'tool_choice.function' is set"
        yield FieldViolation("tool_choice.name", text)
    elif long or short:
        field = "tool_choice.function.name" if long else "tool_choice.name"
        yield from _check_known(field, _chosen_name(choice), names)
    else:
        yield from check_given("tool_choice.function", given=False)


def _legacy_choice_violations(request: CreateChatCompletionRequest) -> Violations:
    choice = request.function_call
    yield from check_enum("function_call", choice.mode, FunctionCallMode.DESCRIPTOR)
    if not choice.HasField("named"):
        return
    if request.functions:
        names = {function.name for function in request.functions}
        yield from _check_known("function_call.name", choice.named.name, names)
    else:
        text = "Input should be 'auto' or 'none' without functions"
        yield FieldViolation("function_call", text)


def _format_violations(request: CreateChatCompletionRequest) -> Violations:
    """The format of calls is fixed, so a request that allows them may not ask for another."""
    if _calls_are_forbidden(request):
        return
    constrained = request.response_format.WhichOneof("kind") not in (None, "text")
    field = next((name for name in ("tools", "functions") if _is_given(request, name)), None)
    if constrained and field:
        text = f"Input should be of type 'text' where '{field}' is set"
        yield FieldViolation("response_format", text)


def _calls_are_forbidden(request: CreateChatCompletionRequest) -> bool:
    if request.HasField("function_call"):
        return request.function_call.mode == FunctionCallMode.FUNCTION_CALL_MODE_NONE
    return request.tool_choice.mode == ToolChoiceMode.TOOL_CHOICE_MODE_NONE


def _named_function(request: CreateChatCompletionRequest) -> str | None:
    """The only function that may be called, if the request names one."""
    if request.function_call.HasField("named"):
        return request.function_call.named.name
    choice = request.tool_choice
    return _chosen_name(choice.named) if choice.HasField("named") else None


def _chosen_name(choice: NamedToolChoice) -> str:
    """The name of the chosen function, which may stand in either of two fields."""
    return choice.function.name if choice.HasField("function") else choice.name


def _check_known(field: str, name: str, names: set[str]) -> Violations:
    if name not in names:
        text = f"Input should be the name of one of the tools, not '{name}'"
        yield FieldViolation(field, text)


def _is_given(request: CreateChatCompletionRequest, field: str) -> bool:
    return any(descriptor.name == field for descriptor, _ in request.ListFields())
