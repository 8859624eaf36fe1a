"""Turns the `response_format` of a request into the source of a grammar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.alphabet import EVERY_BYTE, Alphabet
from rapport.service.structured_output.ecma_regex.character_set import EVERY_CHARACTER
from rapport.service.structured_output.gbnf import gbnf_to_lark
from rapport.service.structured_output.gbnf_parser import GbnfError
from rapport.service.structured_output.grammar_source import GrammarSource
from rapport.service.structured_output.json_schema.grammar import schema_grammar
from rapport.service.structured_output.strict_json import MAX_BYTES, field_error, parse_json
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat

FIELD = "response_format"
ANY_OBJECT: dict[str, Any] = {"type": "object"}
# The work of matching a regular expression grows with the square of its length.
MAX_REGEX_BYTES = 32 << 10
# The keys of the object in which OpenAI clients send a schema.
WRAPPER_KEYS = frozenset({"name", "description", "schema", "strict"})


def grammar_source(
    response_format: ResponseFormat, alphabet: Alphabet = EVERY_BYTE
) -> GrammarSource | None:
    """The grammar of a response format, or None if it allows any text.

    `alphabet` is what the model can write.

    Raises:
        InvalidRequestError: the format is wrong, or has to be enforced and cannot be.
    """
    match response_format.WhichOneof("kind"):
        case "json_object":
            return _json_object(response_format.json_object, alphabet)
        case "json_schema":
            return _json_schema(response_format.json_schema, alphabet)
        case "grammar":
            return _grammar(response_format.grammar, alphabet)
        case "regex":
            return _regex(response_format.regex, alphabet)
    return None


def _json_object(json_object: JsonObjectFormat, alphabet: Alphabet) -> GrammarSource:
    field = f"{FIELD}.schema"
    schema = _json(json_object.schema, field) if json_object.HasField("schema") else ANY_OBJECT
    return schema_grammar(ANY_OBJECT if schema == {} else schema, field, alphabet)


def _json_schema(text: str, alphabet: Alphabet) -> GrammarSource:
    field = f"{FIELD}.json_schema"
    value = _json(text, field)
    if not isinstance(value, dict) or not value.keys() & {"name", "schema"}:
        return schema_grammar(value, field, alphabet)
    if violations := list(_wrapper_violations(value, field)):
        raise InvalidRequestError(violations)
    field = f"{field}.schema"
    schema = value["schema"]
    schema = _json(schema, field) if isinstance(schema, str) else schema
    return schema_grammar(schema, field, alphabet, strict=value.get("strict") is True)


def _wrapper_violations(value: dict[str, Any], field: str) -> Iterator[FieldViolation]:
    for key in value.keys() - WRAPPER_KEYS:
        yield FieldViolation(f"{field}.{key}", "Extra inputs are not permitted")
    for key in ("name", "description"):
        if not isinstance(value.get(key), str | None):
            yield FieldViolation(f"{field}.{key}", "Input should be a valid string")
    if not isinstance(value.get("strict"), bool | None):
        yield FieldViolation(f"{field}.strict", "Input should be a valid boolean")
    if value.get("schema") is None:
        yield FieldViolation(f"{field}.schema", "Field required")


def _json(text: str, field: str) -> Any:
    """Parses a JSON value, which may itself be a JSON string that holds a JSON text."""
    value = parse_json(text, field)
    return parse_json(value, field) if isinstance(value, str) else value


def _grammar(text: str, alphabet: Alphabet) -> GrammarSource:
    field = f"{FIELD}.grammar"
    _check_length(text, field, MAX_BYTES)
    try:
        return GrammarSource(gbnf_to_lark(text, alphabet.text_characters), field)
    except GbnfError as error:
        raise field_error(field, f"Input should be a valid GBNF grammar: {error}") from None


def _regex(text: str, alphabet: Alphabet) -> GrammarSource:
    field = f"{FIELD}.regex"
    _check_length(text, field, MAX_REGEX_BYTES)
    source: str = json.loads(LLMatcher.grammar_from_regex(text))["grammars"][0]["lark_grammar"]
    if alphabet.text_characters != EVERY_CHARACTER:
        # Else the answer could come to a place where no token is left.
        expression = source.removeprefix("start: ")
        writable = alphabet.text_characters.pattern
        source = f"start: TEXT\nTEXT: {expression} & /{writable}*/"
    return GrammarSource(source, field)


def _check_length(text: str, field: str, max_bytes: int) -> None:
    if not text:
        raise field_error(field, "String should have at least 1 character")
    if len(text.encode()) > max_bytes:
        raise field_error(field, f"String should have at most {max_bytes} bytes")
