"""The grammar of an answer that may call tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.gbnf import lark_string
from rapport.service.structured_output.grammar_source import GrammarSource
from rapport.service.structured_output.json_schema.grammar import dump_schema, translate_schema
from rapport.service.tools.hermes_format import (
    BLANK,
    CALL_TAIL,
    FENCE,
    GAP,
    MAX_BLANKS,
    OPEN_TAG,
    SEPARATOR,
    bare_head,
    call_head,
)
from rapport.service.tools.tool_choice import Function, JsonObject, ToolPolicy

ANY_ARGUMENTS: JsonObject = {"type": "object"}
# Text that leads up to a call, or the whole answer if there is no call. The parser follows
# both rules at once: after the tag, OPENING is complete and TEXT is no longer possible.
TEXT = f"TEXT: /(?s:.*)/ & ~/(?s:.*){OPEN_TAG}(?s:.*)/"
OPENING = f"opening[lazy]: /(?s:.*){OPEN_TAG}/"
# How an answer goes on that begins with a call without tags. A text that began like it would be
# longer, but a lazy rule ends before others.
BARE_GAP = f"bare_gap: /{BLANK}{{1,{MAX_BLANKS}}}/"
BARE_TAIL = rf"bare_tail: /{GAP}\}}/"
BARE_END = f"bare_end: /{GAP}{FENCE}{GAP}/"


def tool_call_grammar(tools: ToolPolicy, *, loose: bool = False) -> GrammarSource:
    """The grammar of tool calls. Unless calls are forced, text may precede them.

    The arguments of forced calls and of strict functions must match the function's schema.
    Those of other functions must match it if the grammar can express it, and may be any
    object if it cannot, or if `loose` is set.

    Raises:
        InvalidRequestError: a schema has to be enforced, and the grammar cannot express it.
    """
    functions = tools.allowed
    field = functions[0].field if len(functions) == 1 else "tools"
    return GrammarSource("\n".join(_rules(tools, loose=loose)), field)


def _rules(tools: ToolPolicy, *, loose: bool) -> Iterator[str]:
    functions = tools.allowed
    more_calls = f" ({lark_string(SEPARATOR + OPEN_TAG)} call)*" if tools.parallel else ""
    if tools.forced:
        yield f"start: {lark_string(OPEN_TAG)} call{more_calls}"
    else:
        bare = "bare+" if tools.parallel else "bare"
        yield f"start: TEXT | opening call{more_calls} | {bare} bare_end?"
        yield from (TEXT, OPENING, BARE_GAP, BARE_TAIL, BARE_END)
        yield _any_of("bare", functions)
    yield _any_of("call", functions)
    for number, function in enumerate(functions):
        schema = _arguments_schema(function, exact=tools.forced or function.strict, loose=loose)
        json = dump_schema(schema, function.field)
        head, tail = lark_string(call_head(function.name)), lark_string(CALL_TAIL)
        yield f"arguments{number}: %json {json}"
        yield f"call{number}: {head} arguments{number} {tail}"
        if not tools.forced:
            yield f"bare_head{number}[lazy]: /{bare_head(function.name)}/"
            yield f"bare{number}: bare_head{number} bare_gap? arguments{number} bare_tail"


def _any_of(rule: str, functions: Sequence[Function]) -> str:
    return f"{rule}: " + " | ".join(f"{rule}{number}" for number in range(len(functions)))


def _arguments_schema(function: Function, *, exact: bool, loose: bool) -> JsonObject:
    """The schema of a function's arguments, as the grammar engine takes it."""
    wanted = ANY_ARGUMENTS if loose and not exact else {"type": "object", **function.parameters}
    try:
        return translate_schema(wanted, function.field)
    except InvalidRequestError:
        if exact:
            raise
        return translate_schema(ANY_ARGUMENTS, function.field)
