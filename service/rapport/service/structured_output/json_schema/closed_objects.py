"""Decides which keys the objects that a schema describes may have.

Where a schema has `properties`, keys that it does not name are kept out, as if it had
`unevaluatedProperties: false`. The grammar engine only knows `additionalProperties`, which
considers one schema and not the schemas beside it. So the names of all schemas that apply to
the same value are collected, and each path through its alternatives is closed on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from rapport.service.structured_output.json_schema.keywords import JsonSchema
from rapport.service.structured_output.json_schema.summary import SchemaSummarizer, SchemaSummary


class ScopeRole(Enum):
    """Who closes the objects at a place."""

    PLACE = auto()
    """The schema itself: no other schema does."""
    PART = auto()
    """The schema that this one is a part of, except for alternatives inside of this one."""
    OPEN = auto()
    """Nobody: other keys are allowed."""


@dataclass(frozen=True, slots=True)
class KeyScope:
    """What the other schemas that apply to the same value say about its keys."""

    role: ScopeRole = ScopeRole.PLACE
    names: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    closing: bool = False
    """Whether one of these schemas has `properties`, so that other keys are kept out."""
    required: tuple[str, ...] = ()
    """Keys to require beyond those that the schema itself requires."""

    def requiring(self, names: tuple[str, ...]) -> KeyScope:
        """The same scope with other keys to require."""
        return replace(self, required=names)

    def widened(self, *summaries: SchemaSummary) -> KeyScope:
        """The same scope with the keys of more schemas."""
        return replace(
            self,
            names=self.names.union(*(summary.names for summary in summaries)),
            patterns=self.patterns.union(*(summary.patterns for summary in summaries)),
            closing=self.closing or any(summary.closes for summary in summaries),
        )


PLACE = KeyScope()
OPEN = KeyScope(ScopeRole.OPEN)


@dataclass(frozen=True, slots=True)
class ClosingPlan:
    """The scopes for the parts and the alternatives of a schema, and how to close it."""

    parts: KeyScope
    alternatives: KeyScope
    closed: KeyScope | None = None
    """The keys to allow, if the schema is to be closed itself."""


def plan_closing(
    scope: KeyScope, summary: SchemaSummary, summarizer: SchemaSummarizer
) -> ClosingPlan:
    """Decides where the objects of a schema are closed."""
    if scope.role is ScopeRole.OPEN or (scope.role is ScopeRole.PLACE and summary.stays_open):
        # The names do not matter here, except that they count as work.
        return ClosingPlan(OPEN, replace(OPEN, names=scope.names | summary.names))
    if scope.role is ScopeRole.PART:
        return ClosingPlan(scope, replace(scope, role=ScopeRole.PLACE, required=()))
    widened = scope.widened(summary)
    if not summary.groups:
        return ClosingPlan(OPEN, OPEN, widened if widened.closing else None)
    branches = [summarizer.summarize(branch) for group in summary.groups for branch in group]
    several = len(summary.groups) > 1
    if not (widened.closing or (several and any(branch.closes for branch in branches))):
        return ClosingPlan(KeyScope(ScopeRole.PART), PLACE)
    if several:
        widened = widened.widened(*branches)
    inner = replace(widened, closing=True, required=())
    return ClosingPlan(replace(inner, role=ScopeRole.PART), inner)


def closing_keywords(
    names: frozenset[str], patterns: frozenset[str], schema: JsonSchema
) -> JsonSchema:
    """The keywords to add to a schema so that it allows these keys only."""
    named, known = schema.get("properties", {}), schema.get("patternProperties", {})
    if names <= named.keys() and patterns <= known.keys():
        return {"additionalProperties": False}
    closing: JsonSchema = {"properties": dict.fromkeys(sorted(names), True)}
    if patterns:
        closing["patternProperties"] = dict.fromkeys(sorted(patterns), True)
    return {"allOf": [{**closing, "additionalProperties": False}]}
