"""Fits the values of JSON Schema keywords to what the grammar engine can enforce."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from llguidance import LLMatcher

from rapport.service.structured_output.json_schema.budget import WorkBudget
from rapport.service.structured_output.json_schema.keywords import is_number

# A double holds every integer up to here exactly, so that two of them can be told apart.
MAX_EXACT_INTEGER = 2**53
# The engine writes ranges of numbers digit by digit, in 64 bits.
MAX_BOUND = 2**63 - 1024
# To enforce a divisor the engine needs one state per remainder.
MAX_REMAINDERS = 100_000
MAX_COUNT = 1_000_000
LOWER_BOUNDS = ("minimum", "exclusiveMinimum")
UPPER_BOUNDS = ("maximum", "exclusiveMaximum")
# "At least one of these keys" becomes one alternative of the whole object for each key.
MAX_KEY_ALTERNATIVES = 50
# JSON can write these characters only with the escape that the engine must not use.
CONTROL_CHARACTER = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")
UNITS_PER_LIST = 10


class UnsupportedKeywordError(Exception):
    """The grammar engine cannot enforce the value of a keyword."""


def engine_bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """The bounds of a schema. The booleans of draft 4 become numbers.

    Raises:
        UnsupportedKeywordError: no number that satisfies a bound fits into 64 bits.
    """
    keywords = LOWER_BOUNDS + UPPER_BOUNDS
    bounds: dict[str, float] = {k: schema[k] for k in keywords if is_number(schema.get(k))}
    for inclusive, exclusive in (LOWER_BOUNDS, UPPER_BOUNDS):
        if schema.get(exclusive) is True and inclusive in bounds:
            bounds[exclusive] = bounds.pop(inclusive)
    bounds = {keyword: _engine_bound(keyword, value) for keyword, value in bounds.items()}
    # The engine fails on a range that is open on one side and has a large bound on the other.
    if any(abs(value) > MAX_EXACT_INTEGER for value in bounds.values()):
        bounds = {"minimum": -MAX_BOUND, "maximum": MAX_BOUND, **bounds}
    return bounds


def _engine_bound(keyword: str, value: float) -> float:
    """The nearest bound that a double holds exactly and that is not wider than `value`."""
    upper = keyword in UPPER_BOUNDS
    if value < -MAX_BOUND if upper else value > MAX_BOUND:
        raise UnsupportedKeywordError(f"'{keyword}' is beyond 64 bits")
    value = max(-MAX_BOUND, min(MAX_BOUND, value))
    if abs(value) <= MAX_EXACT_INTEGER:
        return value
    near = float(value)
    if near > value if upper else near < value:
        near = math.nextafter(near, -math.inf if upper else math.inf)
    return int(near)


def engine_count(keyword: str, value: float) -> int:
    """A limit on the number of characters, items or keys.

    Raises:
        UnsupportedKeywordError: the minimum is so large that no answer would reach it.
    """
    if value > MAX_COUNT and keyword.startswith("min"):
        raise UnsupportedKeywordError(f"'{keyword}' should be at most {MAX_COUNT}")
    return min(int(value), MAX_COUNT)


def remainders(divisor: float) -> int:
    """The number of remainders of a divisor when a number's decimal digits are read in order."""
    return int("".join(map(str, Decimal(str(divisor)).normalize().as_tuple().digits)))


def check_pattern(pattern: str) -> None:
    """Checks that the engine can enforce a regular expression.

    Raises:
        UnsupportedKeywordError: its syntax is wrong, or it uses look-around.
    """
    try:
        pattern.encode()
    except UnicodeEncodeError:
        raise UnsupportedKeywordError("strings should be valid Unicode") from None
    message = LLMatcher.validate_grammar(LLMatcher.grammar_from_regex(pattern))
    if message:
        reason = message.rpartition("error: ")[2].partition("\n")[0]
        raise UnsupportedKeywordError(f"the pattern {pattern!r} cannot be enforced: {reason}")


def check_constant(value: Any, budget: WorkBudget) -> None:
    """Checks that the engine can write a constant exactly.

    Raises:
        UnsupportedKeywordError: it cannot.
        SchemaTooLargeError: the constant has too many keys or lists.
    """
    if isinstance(value, dict):
        budget.spend_on_keys(len(value))
        for name, item in value.items():
            check_constant(name, budget)
            check_constant(item, budget)
    elif isinstance(value, list):
        budget.spend(UNITS_PER_LIST)
        for item in value:
            check_constant(item, budget)
    elif isinstance(value, str) and CONTROL_CHARACTER.search(value):
        raise UnsupportedKeywordError("strings with control characters cannot be enforced")
    elif is_number(value) and abs(value) > MAX_EXACT_INTEGER:
        raise UnsupportedKeywordError("numbers beyond 2**53 cannot be told apart")


def drop_key_counts(schema: dict[str, Any]) -> None:
    """Removes limits on the number of keys that hold in any case.

    Raises:
        UnsupportedKeywordError: a limit is left that the engine cannot enforce.
    """
    named, required = set(schema.get("properties", {})), set(schema.get("required", []))
    sealed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    if schema.get("minProperties", 0) <= len(required):
        schema.pop("minProperties", None)
    if sealed and schema.get("maxProperties", 0) >= len(named | required):
        schema.pop("maxProperties", None)
    missing = schema.get("minProperties", len(required)) - len(required)
    # Keys that are not named may repeat, so two of them may be the same key.
    if missing > 1 and not sealed:
        raise UnsupportedKeywordError(
            "'minProperties' cannot be enforced above 'required' plus one"
        )
    spare = schema.get("maxProperties", len(required) + 1) - len(required)
    limits = {"minProperties", "maxProperties"} & schema.keys()
    feasible = sealed and missing <= 1 and spare == 1 and len(named) <= MAX_KEY_ALTERNATIVES
    if limits and named - required and not feasible:
        keywords = " and ".join(f"'{keyword}'" for keyword in sorted(limits))
        raise UnsupportedKeywordError(f"{keywords} cannot be enforced beside optional properties")
