"""Values in JSON Schemas that output must equal, as far as the engine can write them."""

from __future__ import annotations

import re
from typing import Any

from service.formats.keywords import EXACT, is_number
from service.formats.numbers import Unsupported

# Their only spelling in JSON is the one that the engine must not use.
CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")


def check_constant(value: Any) -> None:
    """Lets a value pass that the engine writes exactly.

    Raises:
        Unsupported: there is more to it.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            check_constant(name)
            check_constant(item)
    elif isinstance(value, list):
        for item in value:
            check_constant(item)
    elif isinstance(value, str) and CONTROL.search(value):
        raise Unsupported("strings with control characters cannot be enforced")
    elif is_number(value) and abs(value) > EXACT:
        raise Unsupported("numbers beyond 2**53 cannot be told apart")
