"""The grammar of an answer that may call tools."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from llguidance import LLMatcher

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.alphabet import EVERY_BYTE, Alphabet
from rapport.service.structured_output.gbnf import lark_string
from rapport.service.structured_output.grammar_source import GrammarSource
from rapport.service.structured_output.json_schema.grammar import dump_schema, translate_schema
from rapport.service.structured_output.json_schema.refusal import explain_refusal
from rapport.service.tools.bare_call import FENCE, bare_head
from rapport.service.tools.call_format import BLANK, GAP, MAX_BLANKS
from rapport.service.tools.tool_choice import Function, JsonObject, ToolPolicy

Arguments = tuple[str, tuple[str, ...]]
"""A schema in the engine's syntax, and the paths of what it does not enforce."""
ANY_ARGUMENTS: JsonObject = {"type": "object"}
# Text that leads up to a call, or the whole answer if there is no call. The parser follows
# both rules at once: after the marker, OPENING is complete and TEXT is no longer possible.
TEXT = "TEXT: /(?s:.*)/ & ~/(?s:.*){marker}(?s:.*)/"
OPENING = "opening[lazy]: /(?s:.*){marker}/"
# How a list of calls begins.
LIST = "list: / ?{opening}/"
# How an answer goes on that begins with a call without tags. A text that began like it would be
# longer, but a lazy rule ends before others.
BARE_GAP = f"bare_gap: /{BLANK}{{1,{MAX_BLANKS}}}/"
BARE_TAIL = rf"bare_tail: /{GAP}\}}/"
BARE_END = f"bare_end: /{GAP}{FENCE}{GAP}/"


def tool_call_grammar(
    tools: ToolPolicy,
    alphabet: Alphabet = EVERY_BYTE,
    *,
    loose: bool = False,
    checked: bool = False,
) -> GrammarSource:
    """The grammar of tool calls. Unless calls are forced, text may precede them.

    Arguments match their function's schema as far as a grammar can express it, and all of it if
    the function is strict. Where no value can match a schema, the arguments may be any object,
    but those of a strict function, or of one that may be forced, may not. If `loose` is set, the
    arguments of functions that are neither may be any object. `alphabet` is what the model can
    write into a string.

    The engine may refuse what is returned. With `checked` it takes each schema by itself.

    Raises:
        InvalidRequestError: schemas have to be enforced and cannot be. It names all of them.
    """
    functions = tools.allowed
    arguments = _all_arguments(tools, alphabet, loose=loose, checked=checked)
    rules = "\n".join(_rules(tools, [schema for schema, _ in arguments]))
    unenforced = tuple(path for _, paths in arguments for path in paths)
    field = functions[0].field if len(functions) == 1 else "tools"
    next_try = partial(tool_call_grammar, tools, alphabet, checked=not checked, loose=checked)
    return GrammarSource(rules, field, unenforced, if_refused=None if loose else next_try)


def _rules(tools: ToolPolicy, schemas: Sequence[str]) -> Iterator[str]:
    functions, form = tools.allowed, tools.format
    calls = _calls(tools)
    if tools.forced:
        yield f"start: {lark_string(form.marker)} {calls}" if form.is_marked else f"start: {calls}"
    else:
        bare = "bare+" if _are_several(tools) else "bare"
        yield f"start: TEXT | opening {calls} | {bare} bare_end?"
        marker = re.escape(form.marker)
        yield from (TEXT.format(marker=marker), OPENING.format(marker=marker))
        yield from (BARE_GAP, BARE_TAIL, BARE_END)
        yield _any_of("bare", functions)
    if form.is_list:
        yield LIST.format(opening=re.escape(form.opening))
    yield _any_of("call", functions)
    for number, (function, schema) in enumerate(zip(functions, schemas, strict=True)):
        parts = [lark_string(form.call_head(function.name)), f"arguments{number}"]
        parts += [lark_string(form.tail)] if form.tail else []
        yield f"arguments{number}: %json {schema}"
        yield f"call{number}: {' '.join(parts)}"
        if not tools.forced:
            yield f"bare_head{number}[lazy]: /{bare_head(function.name)}/"
            yield f"bare{number}: bare_head{number} bare_gap? arguments{number} bare_tail"


def _calls(tools: ToolPolicy) -> str:
    """What stands behind the marker: calls, in a list or not."""
    form = tools.format
    more = f" ({lark_string(form.separator or '')} call)*" if _are_several(tools) else ""
    return f"list call{more} {lark_string(form.closing)}" if form.is_list else f"call{more}"


def _are_several(tools: ToolPolicy) -> bool:
    return tools.parallel and tools.format.separator is not None


def _any_of(rule: str, functions: Sequence[Function]) -> str:
    return f"{rule}: " + " | ".join(f"{rule}{number}" for number in range(len(functions)))


def _all_arguments(
    tools: ToolPolicy, alphabet: Alphabet, *, loose: bool, checked: bool
) -> list[Arguments]:
    found: list[Arguments] = []
    violations: list[FieldViolation] = []
    for function in tools.allowed:
        exact = tools.forced or function.strict
        try:
            if loose and not exact:
                found.append(_any_arguments(function))
            else:
                found.append(_arguments(function, alphabet, checked=checked))
        except InvalidRequestError as error:
            if exact:
                violations += error.violations
            found.append(_any_arguments(function))
    if violations:
        raise InvalidRequestError(violations)
    return found


def _arguments(function: Function, alphabet: Alphabet, *, checked: bool) -> Arguments:
    """The schema of a function's arguments, as the grammar engine takes it."""
    field = function.field
    wanted = {"type": "object", **function.parameters}
    translated = translate_schema(wanted, field, alphabet, strict=function.strict)
    text = dump_schema(translated.schema, field)
    if checked and LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(text)):
        explain_refusal(translated, field)
    return text, translated.unenforced


def _any_arguments(function: Function) -> Arguments:
    schema = translate_schema(ANY_ARGUMENTS, function.field).schema
    return dump_schema(schema, function.field), (function.field,)
