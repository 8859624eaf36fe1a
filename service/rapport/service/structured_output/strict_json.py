"""Parses JSON texts inside of requests strictly: ambiguous texts are refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Never

from rapport.common.json_errors import json_problem
from rapport.service.errors import FieldViolation, InvalidRequestError

MAX_BYTES = 256 << 10
# Parsers that read the text later give up at 128.
MAX_DEPTH = 100
# Python does not convert numbers of a few thousand digits.
MAX_DIGITS = 1000
TOO_DEEP = f"Input should be valid JSON, nested at most {MAX_DEPTH} deep"


def parse_json(text: str, field: str) -> Any:
    """Parses a JSON text. The keys of objects keep their order.

    Raises:
        InvalidRequestError: it is too long, is not JSON, has a key twice in one object, or has
            a string that is not valid Unicode.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise field_error(field, f"JSON text should have at most {MAX_BYTES} bytes")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_constant,
        )
        _check_depth(value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise field_error(field, TOO_DEEP) from None
    except UnicodeEncodeError:
        raise field_error(field, "Strings should be valid Unicode") from None
    except json.JSONDecodeError as error:
        raise field_error(field, f"Input should be valid JSON: {json_problem(error)}") from None
    except ValueError as error:
        raise field_error(field, f"Input should be valid JSON: {error}") from None
    return value


def field_error(field: str, description: str) -> InvalidRequestError:
    """An error about a single field."""
    return InvalidRequestError([FieldViolation(field, description)])


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for parent in level for item in _items(parent)]
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


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:MAX_DIGITS]} is too large")
    return number


def _constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")
