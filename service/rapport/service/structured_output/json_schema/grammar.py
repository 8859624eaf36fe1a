"""Turns a JSON Schema into a grammar that enforces it as far as a grammar can."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

from llguidance import LLMatcher

from rapport.service.structured_output.alphabet import EVERY_BYTE, Alphabet
from rapport.service.structured_output.grammar_source import GrammarSource
from rapport.service.structured_output.json_schema.keyword_handlers import HANDLERS
from rapport.service.structured_output.json_schema.keywords import is_schema
from rapport.service.structured_output.json_schema.refusal import explain_refusal
from rapport.service.structured_output.json_schema.translator import TranslatedSchema, Translator
from rapport.service.structured_output.strict_json import field_error

# Between two tokens of JSON: one space, or a new line and its indentation. This allows compact
# and indented output, as models write it, but no endless whitespace.
WHITESPACE = r"[\x20]|\n[\x20]{0,16}|\n\t{1,8}"
# Without the \u escape, a key that `properties` names has only one spelling, which the engine
# keeps out of the additional keys. Models write characters as they are. Only control characters
# cannot be written.
ESCAPES = 'nrbtf\\"'
OPTIONS = {"x-guidance": {"whitespace_pattern": WHITESPACE, "json_allowed_escapes": ESCAPES}}


def translate_schema(
    schema: Any, field: str, alphabet: Alphabet = EVERY_BYTE, *, strict: bool = False
) -> TranslatedSchema:
    """Translates a JSON Schema to the keywords that the grammar engine enforces.

    The result may follow `%json` in a Lark grammar. Keys of objects come in the order of
    `properties`. Where a schema has `properties`, other keys are kept out unless
    `additionalProperties` says otherwise. What cannot be enforced is left out, or refused if the
    schema is `strict`.

    Raises:
        InvalidRequestError: it is not a schema, no value satisfies it, or it is strict and has
            keywords that cannot be enforced. The error names each keyword by its path, which
            begins with `field`.
    """
    if not is_schema(schema):
        raise field_error(field, "Input should be a valid JSON Schema")
    translated = Translator(schema, field, HANDLERS, alphabet, strict=strict).translate()
    return replace(translated, schema=OPTIONS | translated.schema)


def schema_grammar(
    schema: Any, field: str, alphabet: Alphabet = EVERY_BYTE, *, strict: bool = False
) -> GrammarSource:
    """The grammar of all values that satisfy the schema.

    Raises:
        InvalidRequestError: as `translate_schema` and `dump_schema`.
    """
    translated = translate_schema(schema, field, alphabet, strict=strict)
    text = LLMatcher.grammar_from_json_schema(dump_schema(translated.schema, field))
    explain = partial(explain_refusal, translated, field)
    return GrammarSource(text, field, translated.unenforced, if_refused=explain)


def dump_schema(schema: Any, field: str) -> str:
    """The JSON text of a schema.

    Raises:
        InvalidRequestError: a string in the schema is not valid Unicode.
    """
    text = json.dumps(schema, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise field_error(field, "Strings should be valid Unicode") from None
    return text
