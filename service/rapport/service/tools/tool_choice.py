"""The tools of a request and how the model may use them.

A request has tools in the current form (`tools`, `tool_choice`) or in the legacy form
(`functions`, `function_call`). Both are parsed to the same `ToolPolicy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rapport.service.tools.call_format import HERMES, CallFormat

JsonObject = dict[str, Any]

NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}, "additionalProperties": False}
"""The schema of a function that declares no parameters."""


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
    format: CallFormat = HERMES
    """How the model writes calls."""

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
