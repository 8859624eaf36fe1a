"""The tools of a request and how the model may use them.

A request has tools in the current form (`tools`, `tool_choice`) or in the legacy form
(`functions`, `function_call`). Both are parsed to the same `ToolPolicy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rapport.service.structured_output.strict_json import parse_json
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.tool_pb2 import (
    FunctionCallChoice,
    FunctionCallMode,
    FunctionDefinition,
    NamedToolChoice,
    ToolChoice,
    ToolChoiceMode,
)

JsonObject = dict[str, Any]

NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}, "additionalProperties": False}
"""The schema of a function that declares no parameters."""
FORCING_MODES = (ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED, ToolChoiceMode.TOOL_CHOICE_MODE_ANY)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may see. `field` is the path of its parameters in the request."""

    name: str
    parameters: JsonObject
    field: str
    description: str | None = None
    strict: bool = False

    @property
    def definition(self) -> JsonObject:
        """The function as chat templates get it, in the form of a request's `tools`."""
        description = {} if self.description is None else {"description": self.description}
        function = {"name": self.name, **description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """The functions of a request, and how the model may call them."""

    functions: tuple[Function, ...] = ()
    forced: bool = False
    """Whether the answer must consist of calls only."""
    named: str | None = None
    """The name of the only function that may be called, if the request names one."""
    parallel: bool = True
    """Whether an answer may have several calls."""

    @property
    def definitions(self) -> tuple[JsonObject, ...]:
        """The functions as chat templates get them."""
        return tuple(function.definition for function in self.functions)

    @property
    def exact(self) -> bool:
        """Whether any calls must match a schema, so that a schema may not be loosened."""
        return self.forced or any(function.strict for function in self.functions)

    @property
    def allowed(self) -> tuple[Function, ...]:
        """The functions that may be called."""
        return tuple(f for f in self.functions if self.named in (None, f.name))


NO_TOOLS = ToolPolicy()


def parse_tool_policy(request: CreateChatCompletionRequest) -> ToolPolicy:
    """Parses the tools of a request that was validated.

    Returns `NO_TOOLS` where the request forbids calls.

    Raises:
        InvalidRequestError: the parameters of a function are not valid JSON.
    """
    choice = _tool_choice(request)
    if choice.mode == ToolChoiceMode.TOOL_CHOICE_MODE_NONE:
        return NO_TOOLS
    functions = tuple(_parse_function(*each) for each in function_definitions(request))
    named = chosen_name(choice.named) if choice.HasField("named") else None
    parallel = not request.HasField("parallel_tool_calls") or request.parallel_tool_calls
    return ToolPolicy(
        functions,
        forced=named is not None or choice.mode in FORCING_MODES,
        named=named,
        parallel=parallel and named is None,
    )


def function_definitions(
    request: CreateChatCompletionRequest,
) -> Iterator[tuple[str, FunctionDefinition]]:
    """The functions of a request with their field paths, in the current and the legacy form."""
    for index, tool in enumerate(request.tools):
        if tool.HasField("function"):
            yield f"tools[{index}].function", tool.function
    for index, function in enumerate(request.functions):
        yield f"functions[{index}]", function


def chosen_name(choice: NamedToolChoice) -> str:
    """The name of the chosen function, which may stand in either of two fields."""
    return choice.function.name if choice.HasField("function") else choice.name


def _tool_choice(request: CreateChatCompletionRequest) -> ToolChoice:
    """The request's tool choice. A legacy `function_call` is converted."""
    if request.HasField("function_call"):
        return _from_function_call(request.function_call)
    return request.tool_choice


def _from_function_call(legacy: FunctionCallChoice) -> ToolChoice:
    if legacy.HasField("named"):
        return ToolChoice(named=NamedToolChoice(function=legacy.named))
    none = legacy.mode == FunctionCallMode.FUNCTION_CALL_MODE_NONE
    mode = ToolChoiceMode.TOOL_CHOICE_MODE_NONE if none else ToolChoiceMode.TOOL_CHOICE_MODE_AUTO
    return ToolChoice(mode=mode)


def _parse_function(path: str, definition: FunctionDefinition) -> Function:
    field = f"{path}.parameters"
    given = definition.HasField("parameters")
    return Function(
        name=definition.name,
        parameters=parse_json(definition.parameters, field) if given else NO_PARAMETERS,
        field=field,
        description=definition.description if definition.HasField("description") else None,
        strict=definition.strict,
    )
