"""One JSON Schema document, keyword by keyword, to the keywords that the engine enforces."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.budget import Budget, TooLarge
from rapport.service.structured_output.constants import check_constant
from rapport.service.structured_output.exclusive import Exclusion
from rapport.service.structured_output.facts import FactFinder
from rapport.service.structured_output.finite import Finiteness
from rapport.service.structured_output.keywords import FORMATS, SHAPES, meaning
from rapport.service.structured_output.numbers import (
    LEAST,
    MOST,
    MOST_REMAINDERS,
    Unsupported,
    bounds,
    count,
    remainders,
)
from rapport.service.structured_output.objects import check_key_counts, join, narrowed
from rapport.service.structured_output.patterns import check_pattern
from rapport.service.structured_output.references import References, UnresolvedError, dotted
from rapport.service.structured_output.scope import PLACE, Plan, Scope, closer, plan, reach

MOST_SCHEMAS = 10_000
# Deep recursion in the grammar engine would end the process; it bears ten times as much.
MOST_DEPTH = 100
TOO_LARGE = (
    "JSON Schema not supported: it is too large or too intricate; "
    f"at most {MOST_SCHEMAS} schemas may be used, {MOST_DEPTH} deep"
)
Json = dict[str, Any]
Handler = Callable[["Translator", Any, str, Plan], Json]


class Translator:
    """Translates a document. Each schema is taken once for each scope that it occurs in."""

    def __init__(self, root: Any, field: str) -> None:
        self.violations: dict[FieldViolation, None] = {}
        self._root = root
        self._field = field
        self._references = References(root)
        self.budget = Budget()
        self.finder = FactFinder(self._references, self.budget)
        self._definitions: Json = {}
        self._names: dict[tuple[int, Scope], str] = {}
        self._schemas = 0
        self._depth = 0
        self.remainders = 1
        """The least common multiple of all divisors: following several multiplies their cost."""

    def translate(self) -> Json:
        """The whole document; what cannot be enforced is in `violations`.

        Raises:
            InvalidRequestError: it is too large.
        """
        try:
            body = self.schema(self._root, self._field, PLACE)
            body = body if isinstance(body, dict) else {"allOf": [body]}
            if not (self.violations or Finiteness(self._definitions, self.budget).ends(body)):
                self.refuse(self._field, "no value of the schema ends, or there is none")
        except TooLarge:
            raise InvalidRequestError([FieldViolation(self._field, TOO_LARGE)]) from None
        return {**body, "$defs": self._definitions}

    def refuse(self, path: str, why: str) -> None:
        """Notes what cannot be enforced."""
        self.violations[FieldViolation(path, f"JSON Schema not supported: {why}")] = None

    def schema(self, schema: Any, path: str, scope: Scope) -> Any:
        """A schema as the engine takes it.

        Raises:
            TooLarge: the document is.
        """
        self._schemas += 1
        if self._schemas > MOST_SCHEMAS or self._depth > MOST_DEPTH:
            raise TooLarge
        if isinstance(schema, bool):
            return schema
        self._depth += 1
        try:
            return self._object(schema, path, scope)
        finally:
            self._depth -= 1

    def _object(self, schema: Json, path: str, scope: Scope) -> Any:
        said = self._well_formed(meaning(schema), path)
        if said.keys() == {"$ref"}:
            return self.reference(said["$ref"], f"{path}.$ref", scope)
        if said.keys() == {"allOf"} and len(said["allOf"]) == 1:
            return self.schema(said["allOf"][0], f"{path}.allOf[0]", scope)
        facts = self.finder.facts(schema)
        keys = reach(scope, facts)
        self.budget.spend_on_keys(len(keys.names), len(keys.patterns))
        decided = plan(scope, facts, self.finder)
        translated = self._keywords(said, path, decided)
        if scope.required:
            required = [*translated.get("required", []), *scope.required]
            translated["required"] = list(dict.fromkeys(required))
        if decided.closed is not None:
            translated = narrowed(translated, facts)
            join(translated, closer(decided.closed, translated))
        self.attempt(path, lambda: check_key_counts(translated))
        return translated

    def _well_formed(self, said: Json, path: str) -> Json:
        kept = {}
        for keyword, value in said.items():
            if keyword not in SHAPES:
                self.refuse(f"{path}.{keyword}", f"the keyword '{keyword}' cannot be enforced")
                continue
            fits, expected = SHAPES[keyword]
            if fits(value):
                kept[keyword] = value
            else:
                text = f"Error validating JSON Schema: '{keyword}' should be {expected}"
                self.violations[FieldViolation(f"{path}.{keyword}", text)] = None
        return kept

    def _keywords(self, said: Json, path: str, decided: Plan) -> Json:
        translated: Json = {}
        for keyword, value in said.items():
            place = f"{path}.{keyword}"
            handler = HANDLERS.get(keyword)
            if handler is None:
                translated[keyword] = value
            else:
                join(translated, handler(self, value, place, decided))
        if isinstance(said.get("items"), list) and "additionalItems" in said:
            rest = self.schema(said["additionalItems"], f"{path}.additionalItems", PLACE)
            translated["items"] = rest
        self.attempt(path, lambda: translated.update(bounds(said)))
        return translated

    def attempt(self, path: str, step: Callable[[], None]) -> None:
        """Takes a step that may turn out to be unsupported."""
        try:
            step()
        except Unsupported as error:
            self.refuse(path, str(error))

    def reference(self, reference: str, path: str, scope: Scope) -> Any:
        """A reference to what another schema in the document became."""
        try:
            target = self._references.resolve(reference)
        except UnresolvedError as error:
            text = f"Error resolving schema reference '{reference}': {error}"
            self.violations[FieldViolation(path, text)] = None
            return True
        key = (id(target), scope)
        if key not in self._names:
            name = self._names[key] = f"d{len(self._names)}"
            place = f"{self._field}{dotted(reference)}"
            # In its place before it is known, so that it comes before those inside it.
            self._definitions[name] = True
            self._definitions[name] = self.schema(target, place, scope)
        return {"$ref": f"#/$defs/{self._names[key]}"}


def properties(document: Translator, value: Json, path: str, _: Plan) -> Json:
    schemas = {name: document.schema(s, f"{path}.{name}", PLACE) for name, s in value.items()}
    return {path.rpartition(".")[2]: schemas}


def pattern_properties(document: Translator, value: Json, path: str, decided: Plan) -> Json:
    for expression in value:
        document.budget.spend_on_pattern(len(expression))
        document.attempt(path, partial(check_pattern, expression))
    return properties(document, value, path, decided)


def additional_properties(document: Translator, value: Any, path: str, _: Plan) -> Json:
    return {"additionalProperties": document.schema(value, path, PLACE)}


def unevaluated_properties(document: Translator, value: Any, path: str, _: Plan) -> Json:
    if not isinstance(value, bool):
        document.refuse(path, "'unevaluatedProperties' should be true or false")
    return {}


def items(document: Translator, value: Any, path: str, decided: Plan) -> Json:
    if isinstance(value, list):
        return prefix_items(document, value, path, decided)
    return {"items": document.schema(value, path, PLACE)}


def prefix_items(document: Translator, value: list[Any], path: str, _: Plan) -> Json:
    schemas = [document.schema(item, f"{path}[{i}]", PLACE) for i, item in enumerate(value)]
    return {"prefixItems": schemas}


def unique_items(document: Translator, value: bool, path: str, _: Plan) -> Json:  # noqa: FBT001 - a JSON value
    if value:
        document.refuse(path, "the keyword 'uniqueItems' cannot be enforced")
    return {}


def all_of(document: Translator, value: list[Any], path: str, decided: Plan) -> Json:
    parts = [document.schema(s, f"{path}[{i}]", decided.parts) for i, s in enumerate(value)]
    return {"allOf": parts}


def ref(document: Translator, value: str, path: str, decided: Plan) -> Json:
    return {"allOf": [document.reference(value, path, decided.parts)]}


def any_of(document: Translator, value: list[Any], path: str, decided: Plan) -> Json:
    scope = decided.alternatives
    return {"anyOf": [document.schema(s, f"{path}[{i}]", scope) for i, s in enumerate(value)]}


def one_of(document: Translator, value: list[Any], path: str, decided: Plan) -> Json:
    scope = decided.alternatives
    required = Exclusion(document.finder, scope, document.budget).proof(value)
    if required is None:
        document.refuse(path, "the alternatives of 'oneOf' may overlap; use 'anyOf'")
        return {}
    decided = Plan(decided.parts, scope.requiring(required))
    return any_of(document, value, path, decided)


def constant(document: Translator, value: Any, path: str, _: Plan) -> Json:
    document.attempt(path, lambda: check_constant(value, document.budget))
    return {path.rpartition(".")[2]: value}


def multiple_of(document: Translator, value: float, path: str, _: Plan) -> Json:
    document.remainders = math.lcm(document.remainders, remainders(value))
    if document.remainders > MOST_REMAINDERS:
        document.refuse(path, f"divisors should have a common multiple up to {MOST_REMAINDERS}")
    return {"multipleOf": value}


def limit(document: Translator, value: float, path: str, _: Plan) -> Json:
    keyword = path.rpartition(".")[2]
    found: Json = {}
    document.attempt(path, lambda: found.update({keyword: count(keyword, value)}))
    return found


def pattern(document: Translator, value: str, path: str, _: Plan) -> Json:
    document.budget.spend_on_pattern(len(value))
    document.attempt(path, lambda: check_pattern(value))
    return {"pattern": value}


def string_format(document: Translator, value: str, path: str, _: Plan) -> Json:
    if value not in FORMATS:
        document.refuse(path, f"the format '{value}' cannot be enforced")
    return {"format": value}


def nothing(_translator: Translator, _value: Any, _path: str, _plan: Plan) -> Json:
    """Said elsewhere."""
    return {}


HANDLERS: dict[str, Handler] = {
    "$ref": ref,
    "allOf": all_of,
    "anyOf": any_of,
    "oneOf": one_of,
    "const": constant,
    "enum": constant,
    "properties": properties,
    "patternProperties": pattern_properties,
    "additionalProperties": additional_properties,
    "unevaluatedProperties": unevaluated_properties,
    "items": items,
    "prefixItems": prefix_items,
    "additionalItems": nothing,
    "uniqueItems": unique_items,
    "multipleOf": multiple_of,
    "pattern": pattern,
    "format": string_format,
    **dict.fromkeys((*LEAST, *MOST), nothing),
    **dict.fromkeys(
        ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"),
        limit,
    ),
}
