"""`response_format`, the form that an answer must have, to a grammar's source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.gbnf import gbnf_to_lark
from rapport.service.structured_output.gbnf_parser import GbnfError
from rapport.service.structured_output.schema import schema_grammar
from rapport.service.structured_output.strict_json import MOST_BYTES, parse, refused
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat

FIELD = "response_format"
OBJECT: dict[str, Any] = {"type": "object"}
# Following a regular expression takes work that grows with the square of its length.
MOST_REGEX = 32 << 10
WRAPPER = frozenset({"name", "description", "schema", "strict"})


@dataclass(frozen=True, slots=True)
class Source:
    """A grammar as the engine's compiler takes it, and the field that it came from."""

    text: str
    field: str


def source_of(wanted: ResponseFormat) -> Source | None:
    """The grammar of a form, if it is one.

    Raises:
        InvalidRequestError: the form is wrong, or cannot be enforced.
    """
    match wanted.WhichOneof("kind"):
        case "json_object":
            return _json_object(wanted.json_object)
        case "json_schema":
            return _json_schema(wanted.json_schema)
        case "grammar":
            return _grammar(wanted.grammar)
        case "regex":
            return _regex(wanted.regex)
    return None


def _json_object(wanted: JsonObjectFormat) -> Source:
    field = f"{FIELD}.schema"
    schema = _json(wanted.schema, field) if wanted.HasField("schema") else OBJECT
    return Source(schema_grammar(OBJECT if schema == {} else schema, field), field)


def _json_schema(text: str) -> Source:
    field = f"{FIELD}.json_schema"
    value = _json(text, field)
    if not isinstance(value, dict) or not value.keys() & {"name", "schema"}:
        return Source(schema_grammar(value, field), field)
    if violations := list(_wrapper_violations(value, field)):
        raise InvalidRequestError(violations)
    field = f"{field}.schema"
    schema = value["schema"]
    schema = _json(schema, field) if isinstance(schema, str) else schema
    return Source(schema_grammar(schema, field), field)


def _wrapper_violations(value: dict[str, Any], field: str) -> Iterator[FieldViolation]:
    for key in value.keys() - WRAPPER:
        yield FieldViolation(f"{field}.{key}", "Extra inputs are not permitted")
    for key in ("name", "description"):
        if not isinstance(value.get(key), str | None):
            yield FieldViolation(f"{field}.{key}", "Input should be a valid string")
    if not isinstance(value.get("strict"), bool | None):
        yield FieldViolation(f"{field}.strict", "Input should be a valid boolean")
    if value.get("schema") is None:
        yield FieldViolation(f"{field}.schema", "Field required")


def _json(text: str, field: str) -> Any:
    """A JSON value, which may stand in a JSON string once more."""
    value = parse(text, field)
    return parse(value, field) if isinstance(value, str) else value


def _grammar(text: str) -> Source:
    field = f"{FIELD}.grammar"
    _check_length(text, field, MOST_BYTES)
    try:
        return Source(gbnf_to_lark(text), field)
    except GbnfError as error:
        raise refused(field, f"Input should be a valid GBNF grammar: {error}") from None


def _regex(text: str) -> Source:
    field = f"{FIELD}.regex"
    _check_length(text, field, MOST_REGEX)
    return Source(LLMatcher.grammar_from_regex(text), field)


def _check_length(text: str, field: str, most: int) -> None:
    if not text:
        raise refused(field, "String should have at least 1 character")
    if len(text.encode()) > most:
        raise refused(field, f"String should have at most {most} bytes")
