"""JSON texts inside of requests, read strictly: what is odd is refused, not guessed."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Never

from rapport.service.errors import FieldViolation, InvalidRequestError

MOST_BYTES = 256 << 10
# Readers further on give up at 128.
MOST_DEPTH = 100
TOO_DEEP = f"Input should be valid JSON, nested at most {MOST_DEPTH} deep"


def parse(text: str, field: str) -> Any:
    """The value of a JSON text, with object keys in their order.

    Raises:
        InvalidRequestError: it is too long or no JSON, a key occurs twice in an object, or a string
            in it is no Unicode.
    """
    if len(text.encode(errors="surrogatepass")) > MOST_BYTES:
        raise refused(field, f"JSON text should have at most {MOST_BYTES} bytes")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_constant
        )
        _check_depth(value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise refused(field, TOO_DEEP) from None
    except UnicodeEncodeError:
        raise refused(field, "Strings should be valid Unicode") from None
    except ValueError as error:
        raise refused(field, f"Input should be valid JSON: {error}") from None
    return value


def refused(field: str, description: str) -> InvalidRequestError:
    """The error of a single field."""
    return InvalidRequestError([FieldViolation(field, description)])


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [item for holder in level for item in _items(holder)]
    if level:
        raise RecursionError


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {json.dumps(twice)} occurs twice in an object")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} is too large")
    return number


def _constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")
