"""Calls as a grammar: what a model may write where it has tools."""

from __future__ import annotations

from collections.abc import Iterator

from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.gbnf import quoted
from rapport.service.structured_output.response_format import Source
from rapport.service.structured_output.schema import dumped, enforceable
from rapport.service.tools import hermes_format as form
from rapport.service.tools.tool_choice import Function, Json, ToolUse

ANY_ARGUMENTS: Json = {"type": "object"}
# Text up to where a call begins, or to the end if none does. Both are read at once: at
# the end of the tag the one is complete and the other impossible.
TEXT = f"TEXT: /(?s:.*)/ & ~/(?s:.*){form.OPEN}(?s:.*)/"
OPENING = f"opening[lazy]: /(?s:.*){form.OPEN}/"


def calls_source(tools: ToolUse, *, loose: bool = False) -> Source:
    """The grammar of calls, after any text unless they are forced.

    Forced calls and those of strict functions keep to the schemas. Others do where that
    can be enforced, and with `loose` not even then: their arguments are any object.

    Raises:
        InvalidRequestError: a schema cannot be enforced, and has to be.
    """
    functions = tools.callable
    field = functions[0].field if len(functions) == 1 else "tools"
    return Source("\n".join(rules(tools, loose=loose)), field)


def rules(tools: ToolUse, *, loose: bool) -> Iterator[str]:
    functions = tools.callable
    further = f" ({quoted(form.BETWEEN + form.OPEN)} call)*" if tools.parallel else ""
    if tools.forced:
        yield f"start: {quoted(form.OPEN)} call{further}"
    else:
        yield from (f"start: TEXT | opening call{further}", TEXT, OPENING)
    yield "call: " + " | ".join(f"call{number}" for number in range(len(functions)))
    for number, function in enumerate(functions):
        schema = arguments(function, exact=tools.forced or function.strict, loose=loose)
        json = dumped(schema, function.field)
        yield f"call{number}: {quoted(form.head(function.name))} %json {json} {quoted(form.TAIL)}"


def arguments(function: Function, *, exact: bool, loose: bool) -> Json:
    """The schema to keep to, as the grammar engine takes it."""
    wanted = ANY_ARGUMENTS if loose and not exact else {"type": "object", **function.parameters}
    try:
        return enforceable(wanted, function.field)
    except InvalidRequestError:
        if exact:
            raise
        return enforceable(ANY_ARGUMENTS, function.field)
