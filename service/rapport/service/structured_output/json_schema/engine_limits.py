"""Fits the values of JSON Schema keywords to what the grammar engine can enforce."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from llguidance import LLMatcher

from rapport.service.structured_output.alphabet import UNWRITABLE, Alphabet
from rapport.service.structured_output.ecma_regex.errors import (
    PatternSyntaxError,
    UnmatchedPatternError,
    UnsupportedPatternError,
)
from rapport.service.structured_output.ecma_regex.translation import translate_pattern
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
UNITS_PER_LIST = 10
MAX_SHOWN_CHARS = 200
NOT_SUPPORTED = "JSON Schema not supported"
REFUSED_PATTERN = "it is too intricate, or names a property of characters that is not known"


class InvalidKeywordError(Exception):
    """No value can satisfy the keyword, or it is wrong. The message is complete."""


class UnsupportedKeywordError(Exception):
    """The grammar engine cannot enforce the value of a keyword."""


def numeric_bounds(schema: dict[str, Any]) -> dict[str, float]:
    """The bounds of a schema. The booleans of draft 4 become numbers."""
    keywords = LOWER_BOUNDS + UPPER_BOUNDS
    bounds: dict[str, float] = {k: schema[k] for k in keywords if is_number(schema.get(k))}
    for inclusive, exclusive in (LOWER_BOUNDS, UPPER_BOUNDS):
        if schema.get(exclusive) is True and inclusive in bounds:
            bounds[exclusive] = bounds.pop(inclusive)
    return bounds


def engine_bound(keyword: str, value: float) -> float:
    """The nearest bound that a double holds exactly and that is not wider than `value`.

    Raises:
        UnsupportedKeywordError: no number that satisfies the bound fits into 64 bits.
    """
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


def closed_range(bounds: dict[str, float]) -> dict[str, float]:
    """Bounds that the engine can take together.

    It fails on a range that is open on one side and has a large bound on the other.
    """
    if any(abs(value) > MAX_EXACT_INTEGER for value in bounds.values()):
        return {"minimum": -MAX_BOUND, "maximum": MAX_BOUND, **bounds}
    return bounds


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


def engine_pattern(pattern: str, alphabet: Alphabet) -> str:
    """A regular expression of the engine's syntax for a pattern of JSON Schema.

    Raises:
        InvalidKeywordError: it is no regular expression of ECMA-262, or nothing that the model
            can write matches it.
        UnsupportedKeywordError: it has a part that no grammar can have.
    """
    try:
        translated = translate_pattern(pattern, alphabet.characters)
    except PatternSyntaxError as error:
        text = f"Error validating JSON Schema: {_shown(pattern)} is no pattern: {error}"
        raise InvalidKeywordError(text) from None
    except UnmatchedPatternError:
        text = f"{NOT_SUPPORTED}: the pattern {_shown(pattern)} matches {UNWRITABLE} into a string"
        raise InvalidKeywordError(text) from None
    except UnsupportedPatternError as error:
        raise _unsupported(pattern, str(error)) from None
    if LLMatcher.validate_grammar(LLMatcher.grammar_from_regex(translated)):
        raise _unsupported(pattern, REFUSED_PATTERN)
    return translated


def _unsupported(pattern: str, reason: str) -> UnsupportedKeywordError:
    return UnsupportedKeywordError(f"the pattern {_shown(pattern)} cannot be enforced: {reason}")


def check_text(text: str, alphabet: Alphabet) -> None:
    """Checks that the model can write a string.

    Raises:
        InvalidKeywordError: it has a character that no token stands for.
    """
    if missing := alphabet.missing(text):
        text = f"{NOT_SUPPORTED}: U+{ord(missing):04X} is {UNWRITABLE} into a string"
        raise InvalidKeywordError(text)


def check_constant(value: Any, budget: WorkBudget, alphabet: Alphabet) -> None:
    """Checks that the engine can write a constant exactly.

    Raises:
        InvalidKeywordError: as `check_text`.
        UnsupportedKeywordError: the engine cannot.
        SchemaTooLargeError: the constant has too many keys or lists.
    """
    if isinstance(value, dict):
        budget.spend_on_keys(len(value))
        for name, item in value.items():
            check_text(name, alphabet)
            check_constant(item, budget, alphabet)
    elif isinstance(value, list):
        budget.spend(UNITS_PER_LIST)
        for item in value:
            check_constant(item, budget, alphabet)
    elif isinstance(value, str):
        check_text(value, alphabet)
    elif is_number(value) and abs(value) > MAX_EXACT_INTEGER:
        raise UnsupportedKeywordError("numbers beyond 2**53 cannot be told apart")


def writable_constants(values: list[Any], budget: WorkBudget, alphabet: Alphabet) -> list[Any]:
    """Those of some constants that the engine can write exactly.

    Raises:
        InvalidKeywordError, UnsupportedKeywordError: there is none; as `check_constant`.
        SchemaTooLargeError: as `check_constant`.
    """
    found, errors = [], []
    for value in values:
        try:
            check_constant(value, budget, alphabet)
        except (InvalidKeywordError, UnsupportedKeywordError) as error:
            errors.append(error)
        else:
            found.append(value)
    if not found:
        raise errors[0]
    return found


def _shown(pattern: str) -> str:
    """A pattern as it is shown in messages."""
    return repr(pattern if len(pattern) <= MAX_SHOWN_CHARS else f"{pattern[:MAX_SHOWN_CHARS]}…")


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
