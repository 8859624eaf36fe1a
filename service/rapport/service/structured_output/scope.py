"""Which keys the objects at a place may have.

Where a schema names `properties`, keys that it does not name are kept out, as if it said
`unevaluatedProperties: false`. The engine knows only `additionalProperties`, which looks
at one schema and not at those beside it. So the names are gathered over all schemas that
apply to the same value, and each way through its alternatives is closed on its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from rapport.service.structured_output.facts import FactFinder, Facts


class Role(Enum):
    PLACE = auto()
    """Nobody else closes the objects here."""
    PART = auto()
    """A schema that this one is part of sees to it, but for the alternatives inside."""
    OPEN = auto()
    """Other keys are welcome."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a schema must know of those that apply to the same value."""

    role: Role = Role.PLACE
    names: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    closing: bool = False
    """Whether one of those named properties."""
    required: tuple[str, ...] = ()
    """Keys to require beyond those that the schema itself requires."""

    def requiring(self, names: tuple[str, ...]) -> Scope:
        return replace(self, required=names)


PLACE = Scope()
OPEN = Scope(Role.OPEN)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a schema's insides are to be taken, and how it is closed itself."""

    parts: Scope
    alternatives: Scope
    closed: Scope | None = None
    """The keys to close with, if it is to be closed here."""


def plan(scope: Scope, facts: Facts, finder: FactFinder) -> Plan:
    """Decides who closes."""
    if scope.role is Role.OPEN or (scope.role is Role.PLACE and facts.stays_open):
        # The names count for nothing here but what they cost.
        return Plan(OPEN, replace(OPEN, names=scope.names | facts.names))
    if scope.role is Role.PART:
        return Plan(scope, replace(scope, role=Role.PLACE, required=()))
    reached = reach(scope, facts)
    if not facts.groups:
        return Plan(OPEN, OPEN, reached if reached.closing else None)
    branches = [finder.facts(branch) for group in facts.groups for branch in group]
    closing = reached.closing or (len(facts.groups) > 1 and any(b.closes for b in branches))
    if not closing:
        return Plan(Scope(Role.PART), PLACE)
    if len(facts.groups) > 1:
        reached = reach(reached, *branches)
    inner = replace(reached, closing=True, required=())
    return Plan(replace(inner, role=Role.PART), inner)


def reach(scope: Scope, *known: Facts) -> Scope:
    return replace(
        scope,
        names=scope.names.union(*(facts.names for facts in known)),
        patterns=scope.patterns.union(*(facts.patterns for facts in known)),
        closing=scope.closing or any(facts.closes for facts in known),
    )


def closer(keys: Scope, own: dict[str, Any]) -> dict[str, Any]:
    """The schema that keeps other keys out; for `own` to take in where it names all itself."""
    named, patterns = own.get("properties", {}), own.get("patternProperties", {})
    if keys.names <= named.keys() and keys.patterns <= patterns.keys():
        return {"additionalProperties": False}
    closing: dict[str, Any] = {"properties": dict.fromkeys(sorted(keys.names), True)}
    if keys.patterns:
        closing["patternProperties"] = dict.fromkeys(sorted(keys.patterns), True)
    return {"allOf": [{**closing, "additionalProperties": False}]}
