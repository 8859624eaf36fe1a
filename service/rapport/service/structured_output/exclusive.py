"""Whether no value is of two alternatives: where that is certain, `oneOf` is `anyOf`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from rapport.service.structured_output.budget import Budget
from rapport.service.structured_output.facts import NUMBERS, FactFinder, Facts
from rapport.service.structured_output.scope import Role, Scope

# How far properties inside of properties are looked into.
REACH = 3
UNITS_A_PAIR = 5


class Exclusion:
    """Proofs about the alternatives of one `oneOf`, which are generated in `scope`."""

    def __init__(self, finder: FactFinder, scope: Scope, budget: Budget) -> None:
        self._finder = finder
        self._scope = scope
        self._budget = budget

    def proof(self, alternatives: Sequence[Any]) -> tuple[str, ...] | None:
        """Keys that alternatives must require so that at most one fits; None where none do.

        Mostly that is no key, or the one that tells them apart and has a default.

        Raises:
            TooLarge: the search does not come to an end.
        """
        facts = [self._finder.facts(alternative) for alternative in alternatives]
        if all(self._apart(*pair) for pair in combinations(facts, 2)):
            return ()
        for name in self._told_in_all(facts):
            schemas = [found.properties[name] for found in facts]
            if all(self._any_disjoint(*pair, REACH) for pair in combinations(schemas, 2)):
                return (name,)
        return None

    def _apart(self, one: Facts, other: Facts) -> bool:
        return self._disjoint(one, other, REACH) or (
            self._kept_out(one, other) and self._kept_out(other, one)
        )

    def _kept_out(self, one: Facts, other: Facts) -> bool:
        """Whether what is generated of `one` lacks a key that `other` requires."""
        sealed = self._scope.role is Role.PLACE and (one.closes or self._scope.closing)
        if not sealed or one.stays_open or one.patterns or one.groups or self._scope.patterns:
            return False
        known = one.names | self._scope.names
        return one.types == {"object"} and any(name not in known for name in other.required)

    @staticmethod
    def _told_in_all(facts: Sequence[Facts]) -> list[str]:
        if any(found.types != {"object"} for found in facts):
            return []
        return [name for name in facts[0].properties if all(name in f.properties for f in facts)]

    def _disjoint(self, one: Facts, other: Facts, reach: int) -> bool:
        self._budget.spend(UNITS_A_PAIR)
        self._budget.spend_on_values(len(one.values or ()) + len(other.values or ()))
        if types_apart(one, other) or values_apart(one, other):
            return True
        if not reach or {"object"} not in (one.types, other.types):
            return False
        both = one.required.keys() & other.required.keys()
        return (
            any(map(one.excludes, other.required))
            or any(map(other.excludes, one.required))
            or any(self._told_apart(one, other, name, reach - 1) for name in both)
        )

    def _told_apart(self, one: Facts, other: Facts, name: str, reach: int) -> bool:
        schemas = one.properties.get(name, []), other.properties.get(name, [])
        return self._any_disjoint(*schemas, reach)

    def _any_disjoint(self, ones: Sequence[Any], others: Sequence[Any], reach: int) -> bool:
        facts = self._finder.facts
        pairs = ((facts(one), facts(other)) for one in ones for other in others)
        return any(self._disjoint(*pair, reach) for pair in pairs)


def types_apart(one: Facts, other: Facts) -> bool:
    ours, theirs = types_of(one), types_of(other)
    if ours is None or theirs is None or ours & theirs:
        return False
    return not (ours & NUMBERS and theirs & NUMBERS)


def types_of(facts: Facts) -> set[str] | None:
    if facts.values is not None:
        return set(facts.values.values())
    return facts.types


def values_apart(one: Facts, other: Facts) -> bool:
    if one.values is None or other.values is None:
        return False
    return one.values.keys().isdisjoint(other.values)
