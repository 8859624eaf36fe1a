"""Translates one JSON Schema document to the keywords that the grammar engine enforces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rapport.service.errors import FieldViolation, InvalidRequestError
from rapport.service.structured_output.json_schema.budget import SchemaTooLargeError, WorkBudget
from rapport.service.structured_output.json_schema.closed_objects import (
    PLACE,
    ClosingPlan,
    KeyScope,
    closing_keywords,
    plan_closing,
)
from rapport.service.structured_output.json_schema.engine_limits import (
    UnsupportedKeywordError,
    drop_key_counts,
    engine_bounds,
)
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
from rapport.service.structured_output.json_schema.summary import SchemaSummarizer, SchemaSummary
from rapport.service.structured_output.json_schema.termination import TerminationChecker

MAX_SCHEMAS = 10_000
# Deep recursion in the grammar engine would end the process. It can take ten times this depth.
MAX_DEPTH = 100
TOO_LARGE = (
    "JSON Schema not supported: it is too large or too intricate; "
    f"at most {MAX_SCHEMAS} schemas may be used, {MAX_DEPTH} deep"
)

Handler = Callable[["Translator", Any, str, ClosingPlan], JsonSchema]
"""Translates one keyword. Gets its value, its field path, and how its schema is closed."""


class Translator:
    """Translates a document. A schema is translated once per scope in which it is used."""

    def __init__(self, root: Any, field: str, handlers: Mapping[str, Handler]) -> None:
        self.violations: dict[FieldViolation, None] = {}
        """What cannot be enforced, in the order in which it was found."""
        self._root = root
        self._field = field
        self._handlers = handlers
        self._references = References(root)
        self.budget = WorkBudget()
        self.summarizer = SchemaSummarizer(self._references, self.budget)
        self._definitions: JsonSchema = {}
        self._names: dict[tuple[int, KeyScope], str] = {}
        self._schemas = 0
        self._depth = 0
        self.remainders = 1
        """The least common multiple of all divisors. The cost of several divisors multiplies."""

    def translate(self) -> JsonSchema:
        """The translated document. What cannot be enforced is in `violations`.

        Raises:
            InvalidRequestError: the document is too large.
        """
        try:
            body = self.schema(self._root, self._field, PLACE)
            body = body if isinstance(body, dict) else {"allOf": [body]}
            if not self.violations:
                self._check_termination(body)
        except SchemaTooLargeError:
            raise InvalidRequestError([FieldViolation(self._field, TOO_LARGE)]) from None
        return {**body, "$defs": self._definitions}

    def _check_termination(self, body: JsonSchema) -> None:
        if not TerminationChecker(self._definitions, self.budget).terminates(body):
            self.refuse(self._field, "no value of the schema ends, or there is none")

    def refuse(self, path: str, reason: str) -> None:
        """Records that the keyword at a path cannot be enforced."""
        self._violation(path, f"JSON Schema not supported: {reason}")

    def _violation(self, path: str, description: str) -> None:
        self.violations[FieldViolation(path, description)] = None

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
        keywords = self._valid_keywords(constraining_keywords(schema), path)
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
            _merge(translated, closing_keywords(plan.closed, translated))
        self.attempt(path, lambda: drop_key_counts(translated))
        return translated

    def _valid_keywords(self, keywords: JsonSchema, path: str) -> JsonSchema:
        valid = {}
        for keyword, value in keywords.items():
            rule = KEYWORDS.get(keyword)
            if rule is None:
                self.refuse(f"{path}.{keyword}", f"the keyword '{keyword}' cannot be enforced")
            elif rule.accepts(value):
                valid[keyword] = value
            else:
                text = f"Error validating JSON Schema: '{keyword}' should be {rule.expected}"
                self._violation(f"{path}.{keyword}", text)
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
        self.attempt(path, lambda: translated.update(engine_bounds(keywords)))
        return translated

    def attempt(self, path: str, step: Callable[[], None]) -> None:
        """Runs a step, and records that the keyword at `path` cannot be enforced if it fails."""
        try:
            step()
        except UnsupportedKeywordError as error:
            self.refuse(path, str(error))

    def reference(self, reference: str, path: str, scope: KeyScope) -> Any:
        """Translates a reference to a schema of the document, and that schema with it."""
        try:
            target = self._references.resolve(reference)
        except UnresolvedReferenceError as error:
            self._violation(path, f"Error resolving schema reference '{reference}': {error}")
            return True
        key = (id(target), scope)
        if key not in self._names:
            name = self._names[key] = f"d{len(self._names)}"
            target_path = f"{self._field}{field_path(reference)}"
            # A placeholder, so that the definition comes before those that it refers to.
            self._definitions[name] = True
            self._definitions[name] = self.schema(target, target_path, scope)
        return {"$ref": f"#/$defs/{self._names[key]}"}


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
