"""A grammar before it is compiled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler, GrammarError
from rapport.service.structured_output.strict_json import field_error

SCHEMA_FIELD_ENDS = ("schema", "parameters")


@dataclass(frozen=True, slots=True)
class GrammarSource:
    """A grammar in the syntax of the grammar engine, and the request field that it is from."""

    text: str
    field: str
    memory_bytes: int = dataclasses.field(default=0, compare=False)
    """How much memory it takes when it is compiled, once that was measured."""


def compile_source(compiler: GrammarCompiler, source: GrammarSource) -> Grammar:
    """The grammar of a source.

    Raises:
        InvalidRequestError: the grammar engine refuses it.
    """
    try:
        return compiler.compile(source.text, source.memory_bytes)
    except GrammarError as error:
        kind = "JSON Schema" if source.field.endswith(SCHEMA_FIELD_ENDS) else "Grammar"
        raise field_error(source.field, f"{kind} not supported: {error}") from None
