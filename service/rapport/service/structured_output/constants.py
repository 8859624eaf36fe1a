"""Values in JSON Schemas that output must equal, as far as the engine can write them."""

from __future__ import annotations

import re
from typing import Any

from rapport.service.structured_output.budget import Budget
from rapport.service.structured_output.keywords import EXACT, is_number
from rapport.service.structured_output.numbers import Unsupported

# Their only spelling in JSON is the one that the engine must not use.
CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")

UNITS_A_LIST = 10


def check_constant(value: Any, budget: Budget) -> None:
    """Lets a value pass that the engine writes exactly.

    Raises:
        Unsupported: there is more to it.
        TooLarge: it has too many keys.
    """
    if isinstance(value, dict):
        budget.spend_on_keys(len(value))
        for name, item in value.items():
            check_constant(name, budget)
            check_constant(item, budget)
    elif isinstance(value, list):
        budget.spend(UNITS_A_LIST)
        for item in value:
            check_constant(item, budget)
    elif isinstance(value, str) and CONTROL.search(value):
        raise Unsupported("strings with control characters cannot be enforced")
    elif is_number(value) and abs(value) > EXACT:
        raise Unsupported("numbers beyond 2**53 cannot be told apart")
