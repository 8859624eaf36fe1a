"""Proves that no value satisfies two alternatives of a `oneOf`.

The grammar engine only knows `anyOf`. Where the alternatives exclude each other, `oneOf`
means the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from rapport.service.structured_output.json_schema.budget import WorkBudget
from rapport.service.structured_output.json_schema.closed_objects import KeyScope, ScopeRole
from rapport.service.structured_output.json_schema.keywords import NUMBER_TYPES
from rapport.service.structured_output.json_schema.summary import SchemaSummarizer, SchemaSummary

# How many levels of nested properties are compared.
MAX_LEVELS = 3
UNITS_PER_PAIR = 5


class ExclusivityProver:
    """Proofs about the alternatives of one `oneOf` that is generated in `scope`."""

    def __init__(self, summarizer: SchemaSummarizer, scope: KeyScope, budget: WorkBudget) -> None:
        self._summarizer = summarizer
        self._scope = scope
        self._budget = budget

    def keys_to_require(self, alternatives: Sequence[Any]) -> tuple[str, ...] | None:
        """The keys that alternatives must require so that at most one of them matches.

        Usually that is no key, or a discriminator that has a default and is therefore not
        required. None if the alternatives may overlap.

        Raises:
            SchemaTooLargeError: the search takes too much work.
        """
        summaries = [self._summarizer.summarize(alternative) for alternative in alternatives]
        if all(self._exclude_each_other(*pair) for pair in combinations(summaries, 2)):
            return ()
        for name in self._common_properties(summaries):
            schemas = [summary.properties[name] for summary in summaries]
            if all(self._any_disjoint(*pair, MAX_LEVELS) for pair in combinations(schemas, 2)):
                return (name,)
        return None

    def _exclude_each_other(self, one: SchemaSummary, other: SchemaSummary) -> bool:
        return self._disjoint(one, other, MAX_LEVELS) or (
            self._lacks_required_key(one, other) and self._lacks_required_key(other, one)
        )

    def _lacks_required_key(self, one: SchemaSummary, other: SchemaSummary) -> bool:
        """Whether objects generated from `one` lack a key that `other` requires."""
        sealed = self._scope.role is ScopeRole.PLACE and (one.closes or self._scope.closing)
        if not sealed or one.stays_open or one.patterns or one.groups or self._scope.patterns:
            return False
        known = one.names | self._scope.names
        return one.types == {"object"} and any(name not in known for name in other.required)

    @staticmethod
    def _common_properties(summaries: Sequence[SchemaSummary]) -> list[str]:
        first, *others = summaries
        if any(summary.types != {"object"} for summary in summaries):
            return []
        return [name for name in first.properties if all(name in o.properties for o in others)]

    def _disjoint(self, one: SchemaSummary, other: SchemaSummary, levels: int) -> bool:
        self._budget.spend(UNITS_PER_PAIR)
        self._budget.spend_on_values(len(one.values or ()) + len(other.values or ()))
        if _types_disjoint(one, other) or _values_disjoint(one, other):
            return True
        if not levels or {"object"} not in (one.types, other.types):
            return False
        both = one.required.keys() & other.required.keys()
        return (
            any(map(one.excludes, other.required))
            or any(map(other.excludes, one.required))
            or any(self._property_disjoint(one, other, name, levels - 1) for name in both)
        )

    def _property_disjoint(
        self, one: SchemaSummary, other: SchemaSummary, name: str, levels: int
    ) -> bool:
        schemas = one.properties.get(name, []), other.properties.get(name, [])
        return self._any_disjoint(*schemas, levels)

    def _any_disjoint(self, ones: Sequence[Any], others: Sequence[Any], levels: int) -> bool:
        summarize = self._summarizer.summarize
        pairs = ((summarize(one), summarize(other)) for one in ones for other in others)
        return any(self._disjoint(*pair, levels) for pair in pairs)


def _types_disjoint(one: SchemaSummary, other: SchemaSummary) -> bool:
    types, other_types = one.possible_types, other.possible_types
    if types is None or other_types is None or types & other_types:
        return False
    return not (types & NUMBER_TYPES and other_types & NUMBER_TYPES)


def _values_disjoint(one: SchemaSummary, other: SchemaSummary) -> bool:
    if one.values is None or other.values is None:
        return False
    return one.values.keys().isdisjoint(other.values)
