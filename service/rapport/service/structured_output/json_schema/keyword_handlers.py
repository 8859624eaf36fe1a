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
    check_text,
    engine_count,
    remainders,
    writable_constants,
)
from rapport.service.structured_output.json_schema.keywords import STRING_FORMATS, JsonSchema
from rapport.service.structured_output.json_schema.one_of import ExclusivityProver
from rapport.service.structured_output.json_schema.translator import Handler, Translator


def _properties(translator: Translator, value: JsonSchema, path: str, _: ClosingPlan) -> JsonSchema:
    properties = {}
    for name, schema in value.items():
        place = f"{path}.{name}"
        translator.attempt(place, name, partial(check_text, name, translator.alphabet))
        properties[name] = translator.schema(schema, place, PLACE)
    return {"properties": properties}


def _required(translator: Translator, value: list[str], path: str, _: ClosingPlan) -> JsonSchema:
    for name in value:
        translator.attempt(path, name, partial(check_text, name, translator.alphabet))
    return {"required": value}


def _pattern_properties(
    translator: Translator, value: JsonSchema, path: str, _: ClosingPlan
) -> JsonSchema:
    """All patterns, or none: keys that match one which is left out would be kept out."""
    schemas: dict[str, list[Any]] = {}
    enforced = True
    for pattern, schema in value.items():
        translated = translator.attempt(path, pattern, partial(translator.pattern, pattern))
        inner = translator.schema(schema, f"{path}.{pattern}", PLACE)
        schemas.setdefault(translated.get(pattern, pattern), []).append(inner)
        enforced = enforced and bool(translated)
    merged = {key: all_[0] if len(all_) == 1 else {"allOf": all_} for key, all_ in schemas.items()}
    return {"patternProperties": merged} if merged and enforced else {}


def _additional_properties(
    translator: Translator, value: Any, path: str, _: ClosingPlan
) -> JsonSchema:
    return {"additionalProperties": translator.schema(value, path, PLACE)}


def _unevaluated_properties(
    translator: Translator, value: Any, path: str, _: ClosingPlan
) -> JsonSchema:
    if not isinstance(value, bool):
        reason = "'unevaluatedProperties' should be true or false"
        translator.findings.leave_out(path, reason)
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
        translator.findings.leave_out(path, "the keyword 'uniqueItems' cannot be enforced")
    return {}


def _all_of(translator: Translator, value: list[Any], path: str, plan: ClosingPlan) -> JsonSchema:
    parts = [translator.schema(s, f"{path}[{i}]", plan.parts) for i, s in enumerate(value)]
    return {"allOf": parts}


def _ref(translator: Translator, value: str, path: str, plan: ClosingPlan) -> JsonSchema:
    return {"allOf": [translator.reference(value, path, plan.parts)]}


def _any_of(translator: Translator, value: list[Any], path: str, plan: ClosingPlan) -> JsonSchema:
    return {"anyOf": translator.alternatives(value, path, plan.alternatives)}


def _one_of(translator: Translator, value: list[Any], path: str, plan: ClosingPlan) -> JsonSchema:
    scope = plan.alternatives
    required = ExclusivityProver(translator.summarizer, scope, translator.budget).keys_to_require(
        value
    )
    if required is None:
        reason = "the alternatives of 'oneOf' may overlap; use 'anyOf'"
        translator.findings.leave_out(path, reason)
        required = ()
    plan = ClosingPlan(plan.parts, scope.requiring(required))
    return _any_of(translator, value, path, plan)


def _const(translator: Translator, value: Any, path: str, _: ClosingPlan) -> JsonSchema:
    found = translator.attempt(path, "enum", partial(_writable, translator, [value]))
    return {"const": value} if found else {}


def _enum(translator: Translator, value: list[Any], path: str, _: ClosingPlan) -> JsonSchema:
    return translator.attempt(path, "enum", partial(_writable, translator, value))


def _writable(translator: Translator, values: list[Any]) -> list[Any]:
    return writable_constants(values, translator.budget, translator.alphabet)


def _multiple_of(translator: Translator, value: float, path: str, _: ClosingPlan) -> JsonSchema:
    multiple = math.lcm(translator.remainders, remainders(value))
    if multiple > MAX_REMAINDERS:
        reason = f"divisors should have a common multiple up to {MAX_REMAINDERS}"
        translator.findings.leave_out(path, reason)
        return {}
    translator.remainders = multiple
    return {"multipleOf": value}


def _limit(translator: Translator, value: float, path: str, _: ClosingPlan) -> JsonSchema:
    keyword = path.rpartition(".")[2]
    return translator.attempt(path, keyword, partial(engine_count, keyword, value))


def _pattern(translator: Translator, value: str, path: str, _: ClosingPlan) -> JsonSchema:
    return translator.attempt(path, "pattern", partial(translator.pattern, value))


def _string_format(translator: Translator, value: str, path: str, _: ClosingPlan) -> JsonSchema:
    if value in STRING_FORMATS:
        return {"format": value}
    translator.findings.leave_out(path, f"the format '{value}' cannot be enforced")
    return {}


def _nothing(_translator: Translator, _value: Any, _path: str, _plan: ClosingPlan) -> JsonSchema:
    """For keywords that another handler or the translator reads."""
    return {}


HANDLERS: dict[str, Handler] = {
    "$ref": _ref,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "const": _const,
    "enum": _enum,
    "properties": _properties,
    "required": _required,
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
