"""Translates one JSON Schema document to the keywords that the grammar engine enforces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.alphabet import Alphabet
from rapport.service.structured_output.json_schema.budget import SchemaTooLargeError, WorkBudget
from rapport.service.structured_output.json_schema.closed_objects import (
    PLACE,
    ClosingPlan,
    KeyScope,
    closing_keywords,
    plan_closing,
)
from rapport.service.structured_output.json_schema.engine_limits import (
    NOT_SUPPORTED,
    InvalidKeywordError,
    UnsupportedKeywordError,
    closed_range,
    drop_key_counts,
    engine_bound,
    engine_pattern,
    numeric_bounds,
)
from rapport.service.structured_output.json_schema.findings import Findings, Found
from rapport.service.structured_output.json_schema.keywords import (
    KEYWORDS,
    JsonSchema,
    constraining_keywords,
)
from rapport.service.structured_output.json_schema.references import (
    References,
    UnresolvedReferenceError,
    field_path,
)
from rapport.service.structured_output.json_schema.simplification import Simplifier
from rapport.service.structured_output.json_schema.summary import SchemaSummarizer, SchemaSummary
from rapport.service.structured_output.json_schema.termination import TerminationChecker

MAX_SCHEMAS = 10_000
# Deep recursion in the grammar engine would end the process. It can take ten times this depth.
MAX_DEPTH = 100
TOO_LARGE = (
    f"{NOT_SUPPORTED}: it is too large or too intricate; "
    f"at most {MAX_SCHEMAS} schemas may be used, {MAX_DEPTH} deep"
)

NOTHING_ENDS = f"{NOT_SUPPORTED}: no value of the schema ends, or there is none"
# Alternatives that leave no choice if all others are left out.
NO_CHOICE: tuple[Any, ...] = (False, {"type": "null"})

Handler = Callable[["Translator", Any, str, ClosingPlan], JsonSchema]
"""Translates one keyword. Gets its value, its field path, and how its schema is closed."""


@dataclass(frozen=True, slots=True)
class TranslatedSchema:
    """A document in the keywords that the grammar engine enforces."""

    schema: JsonSchema
    unenforced: tuple[str, ...]
    """The paths of what is left out, since it cannot be enforced."""
    paths: Mapping[int, str]
    """By the `id` of a schema inside of it: the path of what it was translated from."""


class Translator:
    """Translates a document. A schema is translated once per scope in which it is used."""

    def __init__(
        self,
        root: Any,
        field: str,
        handlers: Mapping[str, Handler],
        alphabet: Alphabet,
        *,
        strict: bool,
    ) -> None:
        self.findings = Findings(strict=strict)
        self.alphabet = alphabet
        self._root = root
        self._field = field
        self._handlers = handlers
        self._references = References(root)
        self.budget = WorkBudget()
        self._simplifier = Simplifier()
        self.summarizer = SchemaSummarizer(self._references, self._simplifier, self.budget)
        self._definitions: JsonSchema = {}
        self._names: dict[tuple[int, KeyScope], str] = {}
        self._patterns: dict[str, str] = {}
        """Patterns that can be enforced, and what they are translated to."""
        self._paths: dict[int, str] = {}
        self._schemas = 0
        self._depth = 0
        self.remainders = 1
        """The least common multiple of all divisors. The cost of several divisors multiplies."""

    def translate(self) -> TranslatedSchema:
        """The translated document.

        Raises:
            InvalidRequestError: it is wrong or too large, or has to be enforced and cannot be.
        """
        try:
            body = self.schema(self._root, self._field, PLACE)
            body = body if isinstance(body, dict) else {"allOf": [body]}
            if not self.findings.rejected:
                self._check_termination(body)
        except SchemaTooLargeError:
            raise InvalidRequestError([FieldViolation(self._field, TOO_LARGE)]) from None
        self.findings.raise_if_rejected()
        schema = {**body, "$defs": self._definitions}
        return TranslatedSchema(schema, self.findings.left_out, self._paths)

    def _check_termination(self, body: JsonSchema) -> None:
        if not TerminationChecker(self._definitions, self.budget).terminates(body):
            self.findings.reject(self._field, NOTHING_ENDS)

    def schema(self, schema: Any, path: str, scope: KeyScope) -> Any:
        """Translates one schema of the document.

        Raises:
            SchemaTooLargeError: the document is too large.
        """
        self._schemas += 1
        if self._schemas > MAX_SCHEMAS or self._depth > MAX_DEPTH:
            raise SchemaTooLargeError
        if isinstance(schema, bool):
            return schema
        self._depth += 1
        try:
            return self._object(schema, path, scope)
        finally:
            self._depth -= 1

    def _object(self, schema: JsonSchema, path: str, scope: KeyScope) -> Any:
        simplified = self._simplifier.simplify(schema)
        if isinstance(simplified, bool):
            return simplified
        keywords = self._valid_keywords(constraining_keywords(simplified), path)
        if keywords.keys() == {"$ref"}:
            return self.reference(keywords["$ref"], f"{path}.$ref", scope)
        if keywords.keys() == {"allOf"} and len(keywords["allOf"]) == 1:
            return self.schema(keywords["allOf"][0], f"{path}.allOf[0]", scope)
        summary = self.summarizer.summarize(schema)
        keys = scope.widened(summary)
        self.budget.spend_on_keys(len(keys.names), len(keys.patterns))
        plan = plan_closing(scope, summary, self.summarizer)
        translated = self._keywords(keywords, path, plan)
        if scope.required:
            required = [*translated.get("required", []), *scope.required]
            translated["required"] = list(dict.fromkeys(required))
        if plan.closed is not None:
            translated = _objects_only(translated, summary)
            self._close(translated, plan.closed)
        if keywords.get("patternProperties") and "patternProperties" not in translated:
            # Keys that match a pattern which cannot be enforced may come.
            translated.pop("additionalProperties", None)
        self._drop_key_counts(translated, path)
        self._paths[id(translated)] = path
        return translated

    def _close(self, translated: JsonSchema, scope: KeyScope) -> None:
        """Keeps out the keys that a scope does not name."""
        patterns = {pattern: self._patterns.get(pattern) for pattern in scope.patterns}
        known = frozenset(filter(None, patterns.values()))
        if len(known) == len(patterns):
            _merge(translated, closing_keywords(scope.names, known, translated))

    def _drop_key_counts(self, translated: JsonSchema, path: str) -> None:
        try:
            drop_key_counts(translated)
        except UnsupportedKeywordError as error:
            for keyword in sorted({"minProperties", "maxProperties"} & translated.keys()):
                del translated[keyword]
                self.findings.leave_out(f"{path}.{keyword}", str(error))

    def _valid_keywords(self, keywords: JsonSchema, path: str) -> JsonSchema:
        valid = {}
        for keyword, value in keywords.items():
            rule = KEYWORDS.get(keyword)
            if rule is None:
                reason = f"the keyword '{keyword}' cannot be enforced"
                self.findings.leave_out(f"{path}.{keyword}", reason)
            elif rule.accepts(value):
                valid[keyword] = value
            else:
                text = f"Error validating JSON Schema: '{keyword}' should be {rule.expected}"
                self.findings.reject(f"{path}.{keyword}", text)
        return valid

    def _keywords(self, keywords: JsonSchema, path: str, plan: ClosingPlan) -> JsonSchema:
        translated: JsonSchema = {}
        for keyword, value in keywords.items():
            handler = self._handlers.get(keyword)
            if handler is None:
                translated[keyword] = value
            else:
                _merge(translated, handler(self, value, f"{path}.{keyword}", plan))
        if isinstance(keywords.get("items"), list) and "additionalItems" in keywords:
            rest = self.schema(keywords["additionalItems"], f"{path}.additionalItems", PLACE)
            translated["items"] = rest
        return translated | self._bounds(keywords, path)

    def _bounds(self, keywords: JsonSchema, path: str) -> JsonSchema:
        bounds: JsonSchema = {}
        for keyword, value in numeric_bounds(keywords).items():
            step = partial(engine_bound, keyword, value)
            bounds |= self.attempt(f"{path}.{keyword}", keyword, step)
        return closed_range(bounds)

    def attempt(self, path: str, keyword: str, step: Callable[[], Any]) -> JsonSchema:
        """A keyword with the value that a step returns, or nothing if it cannot be enforced."""
        try:
            return {keyword: step()}
        except InvalidKeywordError as error:
            self.findings.reject(path, str(error))
        except UnsupportedKeywordError as error:
            self.findings.leave_out(path, str(error))
        return {}

    def pattern(self, pattern: str) -> str:
        """A pattern in the engine's syntax; raises as `engine_pattern`."""
        if pattern not in self._patterns:
            self.budget.spend_on_pattern(len(pattern))
            self._patterns[pattern] = engine_pattern(pattern, self.alphabet)
        return self._patterns[pattern]

    def alternatives(self, schemas: list[Any], path: str, scope: KeyScope) -> list[Any]:
        """Translates the alternatives of an `anyOf`.

        One that cannot be enforced is left out if another can.
        """
        paths = [f"{path}[{i}]" for i in range(len(schemas))]
        tried = [
            self.findings.collect(partial(self.schema, schema, place, scope))
            for schema, place in zip(schemas, paths, strict=True)
        ]
        enough = any(not found and schema not in NO_CHOICE for schema, found in tried)
        kept = []
        for place, (schema, found) in zip(paths, tried, strict=True):
            if not (enough and self._is_dispensable(schema, place, found)):
                self.findings.add(found)
                kept.append(schema)
        return kept

    def _is_dispensable(self, schema: Any, path: str, found: Found) -> bool:
        """Whether an alternative had better not be taken than taken without what was found."""
        if not found or any(found.values()):
            return False
        inside = [v.field.removeprefix(f"{path}.") for v in found if v.field.startswith(f"{path}.")]
        if len(inside) < len(found):
            return False
        container = not {"object", "array"}.isdisjoint(_listed(schema.get("type", ())))
        return self.findings.strict or not (container or any("." in end for end in inside))

    def reference(self, reference: str, path: str, scope: KeyScope) -> Any:
        """Translates a reference to a schema of the document, and that schema with it."""
        try:
            target = self._references.resolve(reference)
        except UnresolvedReferenceError as error:
            text = f"Error resolving schema reference '{reference}': {error}"
            self.findings.reject(path, text)
            return True
        key = (id(target), scope)
        if key not in self._names:
            name = self._names[key] = f"d{len(self._names)}"
            target_path = f"{self._field}{field_path(reference)}"
            # A placeholder, so that the definition comes before those that it refers to.
            self._definitions[name] = True
            self._definitions[name] = self.schema(target, target_path, scope)
        return {"$ref": f"#/$defs/{self._names[key]}"}


def _listed(types: Any) -> Any:
    return [types] if isinstance(types, str) else types


def _objects_only(translated: JsonSchema, summary: SchemaSummary) -> JsonSchema:
    """Restricts a schema that has `properties` but no type to objects, as its author means it."""
    if summary.types is None and summary.values is None and not summary.groups:
        return {"type": "object", **translated}
    return translated


def _merge(translated: JsonSchema, more: JsonSchema) -> None:
    """Adds keywords. Where a keyword is already there, both apply."""
    for keyword, value in more.items():
        if keyword == "allOf":
            translated.setdefault("allOf", []).extend(value)
        elif keyword in translated:
            translated.setdefault("allOf", []).append({keyword: value})
        else:
            translated[keyword] = value
