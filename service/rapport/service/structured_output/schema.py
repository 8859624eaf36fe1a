"""JSON Schemas to what the grammar engine enforces: all that they say, or a refusal."""

from __future__ import annotations

import json
from typing import Any

from llguidance import LLMatcher

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.keywords import is_schema
from rapport.service.structured_output.translate import Json, Translator

# Between two tokens of JSON: one space, or a new line and its indentation. So the output
# reads as models write it, compact or indented, and cannot go on with blanks for ever.
WHITESPACE = r"[\x20]|\n[\x20]{0,16}|\n\t{1,8}"
# Without \\u a key that `properties` names has one spelling only, which the engine knows to
# keep out of additional ones. Models write characters as they are; only controls are lost.
ESCAPES = 'nrbtf\\"'
OPTIONS = {"x-guidance": {"whitespace_pattern": WHITESPACE, "json_allowed_escapes": ESCAPES}}


def enforceable(schema: Any, field: str) -> Json:
    """What the grammar engine takes for `schema`, a JSON Schema with its keys in order.

    The result may stand behind `%json` in a Lark grammar. Keys come in the order of
    `properties`; where there are some, others are kept out unless `additionalProperties`
    says what they are.

    Raises:
        InvalidRequestError: it is no schema, or says what cannot be enforced. Each keyword is
            named by its path from `field` on.
    """
    if not is_schema(schema):
        raise InvalidRequestError([FieldViolation(field, "Input should be a valid JSON Schema")])
    translator = Translator(schema, field)
    translated = translator.translate()
    if translator.violations:
        raise InvalidRequestError(list(translator.violations))
    return OPTIONS | translated


def schema_grammar(schema: Any, field: str) -> str:
    """The source of the grammar of all values of `schema`.

    Raises:
        InvalidRequestError: as `enforceable`, or a string in it is no Unicode.
    """
    text = dumped(enforceable(schema, field), field)
    try:
        return LLMatcher.grammar_from_json_schema(text)
    except ValueError as error:
        text = f"JSON Schema not supported: {error}"
        raise InvalidRequestError([FieldViolation(field, text)]) from None


def dumped(schema: Json, field: str) -> str:
    """The text of a schema for the engine.

    Raises:
        InvalidRequestError: a string in it is no Unicode.
    """
    text = json.dumps(schema, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        violation = FieldViolation(field, "Strings should be valid Unicode")
        raise InvalidRequestError([violation]) from None
    return text
