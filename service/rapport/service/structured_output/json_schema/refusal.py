"""Finds the keyword for which the grammar engine refuses a translated schema."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Never

from llguidance import LLMatcher

from rapport.service.structured_output.json_schema.engine_limits import NOT_SUPPORTED
from rapport.service.structured_output.json_schema.keywords import JsonSchema
from rapport.service.structured_output.json_schema.translator import TranslatedSchema
from rapport.service.structured_output.strict_json import field_error

# CPU time. After it, the part that was found last is named.
MAX_SEARCH_S = 0.5
# Parts of the engine's messages, and what they mean.
REASONS = {
    "are not disjoint": "the patterns of 'patternProperties' may overlap",
    "Unsatisfiable schema": "no value satisfies it",
    "Regex is empty": "no value satisfies it",
    "multiple of": "no value satisfies it",
}
TOO_INTRICATE = "it is too intricate"


def explain_refusal(translated: TranslatedSchema, field: str) -> Never:
    """Raises an `InvalidRequestError` with the path of what the engine refuses."""
    search = _Search(translated)
    path, message = search.run(translated.schema, field)
    reason = next((each for part, each in REASONS.items() if part in message), TOO_INTRICATE)
    raise field_error(path, f"{NOT_SUPPORTED}: {reason}")


class _Search:
    """A search for the smallest part that is refused by itself."""

    def __init__(self, translated: TranslatedSchema) -> None:
        self._paths = translated.paths
        self._options = {k: v for k, v in translated.schema.items() if k in ("x-guidance", "$defs")}
        self._seen: set[int] = set()
        self._until = time.thread_time() + MAX_SEARCH_S

    def run(self, schema: JsonSchema, path: str) -> tuple[str, str]:
        """The path of what is refused, and the engine's message; empty if nothing is."""
        message = self._message(schema)
        part = schema
        while inner := self._refused_part(part):
            part = inner
            path, message = self._paths.get(id(part), path), self._message(part)
        keyword = self._keyword(part)
        return (f"{path}.{keyword}" if keyword else path), message

    def _message(self, schema: JsonSchema) -> str:
        text = json.dumps({**schema, **self._options})
        return LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(text))

    def _refused_part(self, schema: JsonSchema) -> JsonSchema | None:
        for part in self._parts(schema):
            if time.thread_time() > self._until:
                return None
            if id(part) not in self._seen:
                self._seen.add(id(part))
                if self._message(part):
                    return part
        return None

    def _parts(self, schema: JsonSchema) -> Iterator[JsonSchema]:
        """The schemas inside of one that are schemas of their own."""
        if reference := schema.get("$ref"):
            yield from _only_schemas([self._options["$defs"][reference.rpartition("/")[2]]])
        for keyword in ("properties", "patternProperties"):
            yield from _only_schemas(schema.get(keyword, {}).values())
        for keyword in ("prefixItems", "anyOf", "allOf"):
            yield from _only_schemas(schema.get(keyword, ()))
        for keyword in ("items", "additionalProperties"):
            yield from _only_schemas([schema.get(keyword)])

    def _keyword(self, schema: JsonSchema) -> str | None:
        """The keyword without which a schema would not be refused."""
        for keyword in [k for k in schema if k not in ("type", *self._options)]:
            if time.thread_time() > self._until:
                return None
            if not self._message({k: v for k, v in schema.items() if k != keyword}):
                return keyword
        return None


def _only_schemas(values: Any) -> Iterator[JsonSchema]:
    return (value for value in values if isinstance(value, dict))
