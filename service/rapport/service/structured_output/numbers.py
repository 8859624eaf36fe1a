"""Numbers in JSON Schemas, as far as the engine can tell them apart."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from rapport.service.structured_output.keywords import EXACT, WIDEST, is_number

# Following multiples takes a state for each remainder.
MOST_REMAINDERS = 100_000
MOST_COUNTED = 1_000_000
LEAST = ("minimum", "exclusiveMinimum")
MOST = ("maximum", "exclusiveMaximum")


class Unsupported(Exception):
    """The keyword's value is beyond what can be enforced."""


def bound(keyword: str, value: float) -> float:
    """A bound that a double holds exactly, never wider than it was.

    Raises:
        Unsupported: nothing that fits is within 64 bits.
    """
    upper = keyword in MOST
    if value < -WIDEST if upper else value > WIDEST:
        raise Unsupported(f"'{keyword}' is beyond 64 bits")
    value = max(-WIDEST, min(WIDEST, value))
    if abs(value) <= EXACT:
        return value
    near = float(value)
    if near > value if upper else near < value:
        near = math.nextafter(near, -math.inf if upper else math.inf)
    return int(near)


def bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """The bounds of a schema; draft 4's booleans become numbers.

    Raises:
        Unsupported: as `bound`.
    """
    found: dict[str, float] = {k: schema[k] for k in LEAST + MOST if is_number(schema.get(k))}
    for plain, exclusive in (LEAST, MOST):
        if schema.get(exclusive) is True and plain in found:
            found[exclusive] = found.pop(plain)
    found = {keyword: bound(keyword, value) for keyword, value in found.items()}
    # The engine fails at ranges that are far out and open.
    if any(abs(value) > EXACT for value in found.values()):
        found = {"minimum": -WIDEST, "maximum": WIDEST, **found}
    return found


def count(keyword: str, value: float) -> int:
    """A count of characters, items or keys.

    Raises:
        Unsupported: so many must come that they never will.
    """
    if value > MOST_COUNTED and keyword.startswith("min"):
        raise Unsupported(f"'{keyword}' should be at most {MOST_COUNTED}")
    return min(int(value), MOST_COUNTED)


def remainders(value: float) -> int:
    """How many remainders a divisor has, as decimal digits are read."""
    return int("".join(map(str, Decimal(str(value)).normalize().as_tuple().digits)))
