"""Translates the keywords of a JSON Schema one by one."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from rapport.service.structured_output.json_schema.closed_objects import PLACE, ClosingPlan
from rapport.service.structured_output.json_schema.engine_limits import (
    LOWER_BOUNDS,
    MAX_REMAINDERS,
    UPPER_BOUNDS,
    check_constant,
    check_pattern,
    engine_count,
    remainders,
)
from rapport.service.structured_output.json_schema.keywords import STRING_FORMATS, JsonSchema
from rapport.service.structured_output.json_schema.one_of import ExclusivityProver
from rapport.service.structured_output.json_schema.translator import Handler, Translator


def _properties(translator: Translator, value: JsonSchema, path: str, _: ClosingPlan) -> JsonSchema:
    schemas = {name: translator.schema(s, f"{path}.{name}", PLACE) for name, s in value.items()}
    return {path.rpartition(".")[2]: schemas}


def _pattern_properties(
    translator: Translator, value: JsonSchema, path: str, plan: ClosingPlan
) -> JsonSchema:
    for expression in value:
        translator.budget.spend_on_pattern(len(expression))
        translator.attempt(path, partial(check_pattern, expression))
    return _properties(translator, value, path, plan)


def _additional_properties(
    translator: Translator, value: Any, path: str, _: ClosingPlan
) -> JsonSchema:
    return {"additionalProperties": translator.schema(value, path, PLACE)}


def _unevaluated_properties(
    translator: Translator, value: Any, path: str, _: ClosingPlan
) -> JsonSchema:
    if not isinstance(value, bool):
        translator.refuse(path, "'unevaluatedProperties' should be true or false")
    return {}


def _items(translator: Translator, value: Any, path: str, plan: ClosingPlan) -> JsonSchema:
    if isinstance(value, list):
        return _prefix_items(translator, value, path, plan)
    return {"items": translator.schema(value, path, PLACE)}


def _prefix_items(
    translator: Translator, value: list[Any], path: str, _: ClosingPlan
) -> JsonSchema:
    schemas = [translator.schema(item, f"{path}[{i}]", PLACE) for i, item in enumerate(value)]
    return {"prefixItems": schemas}


def _unique_items(translator: Translator, value: bool, path: str, _: ClosingPlan) -> JsonSchema:  # noqa: FBT001 - a JSON value
    if value:
        translator.refuse(path, "the keyword 'uniqueItems' cannot be enforced")
    return {}


def _all_of(translator: Translator, value: list[Any], path: str, plan: ClosingPlan) -> JsonSchema:
    parts = [translator.schema(s, f"{path}[{i}]", plan.parts) for i, s in enumerate(value)]
    return {"allOf": parts}


def _ref(translator: Translator, value: str, path: str, plan: ClosingPlan) -> JsonSchema:
    return {"allOf": [translator.reference(value, path, plan.parts)]}


def _any_of(translator: Translator, value: list[Any], path: str, plan: ClosingPlan) -> JsonSchema:
    scope = plan.alternatives
    return {"anyOf": [translator.schema(s, f"{path}[{i}]", scope) for i, s in enumerate(value)]}


def _one_of(translator: Translator, value: list[Any], path: str, plan: ClosingPlan) -> JsonSchema:
    scope = plan.alternatives
    required = ExclusivityProver(translator.summarizer, scope, translator.budget).keys_to_require(
        value
    )
    if required is None:
        translator.refuse(path, "the alternatives of 'oneOf' may overlap; use 'anyOf'")
        return {}
    plan = ClosingPlan(plan.parts, scope.requiring(required))
    return _any_of(translator, value, path, plan)


def _constant(translator: Translator, value: Any, path: str, _: ClosingPlan) -> JsonSchema:
    translator.attempt(path, lambda: check_constant(value, translator.budget))
    return {path.rpartition(".")[2]: value}


def _multiple_of(translator: Translator, value: float, path: str, _: ClosingPlan) -> JsonSchema:
    translator.remainders = math.lcm(translator.remainders, remainders(value))
    if translator.remainders > MAX_REMAINDERS:
        translator.refuse(path, f"divisors should have a common multiple up to {MAX_REMAINDERS}")
    return {"multipleOf": value}


def _limit(translator: Translator, value: float, path: str, _: ClosingPlan) -> JsonSchema:
    keyword = path.rpartition(".")[2]
    found: JsonSchema = {}
    translator.attempt(path, lambda: found.update({keyword: engine_count(keyword, value)}))
    return found


def _pattern(translator: Translator, value: str, path: str, _: ClosingPlan) -> JsonSchema:
    translator.budget.spend_on_pattern(len(value))
    translator.attempt(path, lambda: check_pattern(value))
    return {"pattern": value}


def _string_format(translator: Translator, value: str, path: str, _: ClosingPlan) -> JsonSchema:
    if value not in STRING_FORMATS:
        translator.refuse(path, f"the format '{value}' cannot be enforced")
    return {"format": value}


def _nothing(_translator: Translator, _value: Any, _path: str, _plan: ClosingPlan) -> JsonSchema:
    """For keywords that another handler or the translator reads."""
    return {}


HANDLERS: dict[str, Handler] = {
    "$ref": _ref,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "const": _constant,
    "enum": _constant,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
    "items": _items,
    "prefixItems": _prefix_items,
    "additionalItems": _nothing,
    "uniqueItems": _unique_items,
    "multipleOf": _multiple_of,
    "pattern": _pattern,
    "format": _string_format,
    **dict.fromkeys((*LOWER_BOUNDS, *UPPER_BOUNDS), _nothing),
    **dict.fromkeys(
        ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"),
        _limit,
    ),
}
