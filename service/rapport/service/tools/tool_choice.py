"""What a request says about calls, whichever way it says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rapport.service.structured_output.strict_json import parse
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.tool_pb2 import (
    FunctionCallChoice,
    FunctionCallMode,
    FunctionDefinition,
    NamedToolChoice,
    ToolChoice,
    ToolChoiceMode,
)

Json = dict[str, Any]

NO_PARAMETERS: Json = {"type": "object", "properties": {}, "additionalProperties": False}
FORCING = (ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED, ToolChoiceMode.TOOL_CHOICE_MODE_ANY)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model is told of. `field` is where the request has its parameters."""

    name: str
    parameters: Json
    field: str
    description: str | None = None
    strict: bool = False

    @property
    def shown(self) -> Json:
        """The function as models see it."""
        description = {} if self.description is None else {"description": self.description}
        function = {"name": self.name, **description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The functions, and how the model may call them."""

    functions: tuple[Function, ...] = ()
    forced: bool = False
    """Whether the answer is nothing but calls."""
    named: str | None = None
    """The only function that may be called, if it is but one."""
    parallel: bool = True
    """Whether there may be several calls."""

    @property
    def shown(self) -> tuple[Json, ...]:
        """The tools as models see them."""
        return tuple(function.shown for function in self.functions)

    @property
    def exact(self) -> bool:
        """Whether some calls must keep to a schema, come what may."""
        return self.forced or any(function.strict for function in self.functions)

    @property
    def callable(self) -> tuple[Function, ...]:
        """The functions that may be called."""
        return tuple(f for f in self.functions if self.named in (None, f.name))


NO_TOOLS = ToolUse()


def tool_use(request: CreateChatCompletionRequest) -> ToolUse:
    """The use of tools that a checked request asks for; none where it must not call any.

    Raises:
        InvalidRequestError: a function's parameters are no JSON.
    """
    choice = choice_of(request)
    if choice.mode == ToolChoiceMode.TOOL_CHOICE_MODE_NONE:
        return NO_TOOLS
    functions = tuple(read(definition, path) for path, definition in definitions(request))
    named = name_in(choice.named) if choice.HasField("named") else None
    several = not request.HasField("parallel_tool_calls") or request.parallel_tool_calls
    return ToolUse(
        functions,
        forced=named is not None or choice.mode in FORCING,
        named=named,
        parallel=several and named is None,
    )


def definitions(
    request: CreateChatCompletionRequest,
) -> Iterator[tuple[str, FunctionDefinition]]:
    """The functions of a request and their paths, in the present form and in the legacy one."""
    for index, tool in enumerate(request.tools):
        if tool.HasField("function"):
            yield f"tools[{index}].function", tool.function
    for index, function in enumerate(request.functions):
        yield f"functions[{index}]", function


def choice_of(request: CreateChatCompletionRequest) -> ToolChoice:
    """The choice of a request; the legacy form becomes the present one."""
    if request.HasField("function_call"):
        return modernised(request.function_call)
    return request.tool_choice


def modernised(legacy: FunctionCallChoice) -> ToolChoice:
    if legacy.HasField("named"):
        return ToolChoice(named=NamedToolChoice(function=legacy.named))
    none = legacy.mode == FunctionCallMode.FUNCTION_CALL_MODE_NONE
    mode = ToolChoiceMode.TOOL_CHOICE_MODE_NONE if none else ToolChoiceMode.TOOL_CHOICE_MODE_AUTO
    return ToolChoice(mode=mode)


def name_in(choice: NamedToolChoice) -> str:
    """The name, in whichever of its two places it is."""
    return choice.function.name if choice.HasField("function") else choice.name


def read(definition: FunctionDefinition, path: str) -> Function:
    field = f"{path}.parameters"
    given = definition.HasField("parameters")
    return Function(
        name=definition.name,
        parameters=parse(definition.parameters, field) if given else NO_PARAMETERS,
        field=field,
        description=definition.description if definition.HasField("description") else None,
        strict=definition.strict,
    )
