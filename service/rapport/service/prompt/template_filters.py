"""Filters and operators of chat templates, each paid for before it makes much of little."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from jinja2.filters import FILTERS
from jinja2.nodes import EvalContext
from jinja2.utils import pass_eval_context

from rapport.service.prompt.render_budget import (
    MAX_INTEGER_BITS,
    RenderBudgetExceededError,
    charge,
    charge_text,
    measure,
    own_size,
    spend,
)

# Of values as they are, and of their text.
PLAIN = [
    "abs",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "int",
    "items",
    "last",
    "length",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "safe",
    "select",
    "selectattr",
    "sort",
    "unique",
]
TEXT = [
    "capitalize",
    "e",
    "escape",
    "forceescape",
    "lower",
    "string",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "wordcount",
]


WIDEST = 16


def paid(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose result is paid for; what is in it was so before."""

    @wraps(function)
    def paying(*args: Any, **kwargs: Any) -> Any:
        spend()
        result = function(*args, **kwargs)
        spend(own_size(result))
        return result

    return paying


def of_text(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, before which its arguments are paid for as text."""

    @wraps(function)
    def paying(*args: Any, **kwargs: Any) -> Any:
        spend(measure(args))
        return function(*args, **kwargs)

    return paying


def tojson(value: Any, indent: int | None = None) -> str:
    """JSON as a model reads it, without jinja's escapes for HTML."""
    spend(measure(value))
    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    if indent > WIDEST:
        raise RenderBudgetExceededError("it indents too far")
    chunks = []
    for chunk in json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(value):
        spend(len(chunk))
        chunks.append(chunk)
    return "".join(chunks)


def replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = (str(charge_text(each)) for each in (text, old, new))
    spend(text.count(old) * len(new))
    return str(text.replace(old, new, -1 if count is None else count))


@pass_eval_context
def join(
    context: EvalContext, items: Iterable[Any], separator: Any = "", attribute: Any = None
) -> Any:
    items = list(items)
    spend(measure(items) + len(items) * measure(separator))
    return FILTERS["join"](context, items, separator, attribute)


def join_method(separator: str, items: Iterable[str]) -> str:
    items = list(items)
    spend(measure(items) + len(items) * len(separator))
    return separator.join(items)


def indent(text: Any, width: int | str = 4, *args: Any, **kwargs: Any) -> Any:
    lines = str(charge_text(text)).splitlines()
    spend(len(lines) * (len(width) if isinstance(width, str) else width))
    return FILTERS["indent"](text, width, *args, **kwargs)


def default(value: Any, otherwise: Any = "", *args: Any, **kwargs: Any) -> Any:
    return FILTERS["default"](value, charge(otherwise), *args, **kwargs)


def concatenated(items: list[Any]) -> str:
    """What `~` makes of its operands."""
    return "".join(str(charge_text(item)) for item in items)


def check_product(left: Any, right: Any) -> None:
    """Pays for a list or text that is repeated."""
    for times, value in ((left, right), (right, left)):
        if isinstance(times, int) and not isinstance(value, int | float):
            spend(max(times, 0) * measure(value))


def check_power(base: Any, exponent: Any) -> None:
    numbers = isinstance(base, int) and isinstance(exponent, int)
    if numbers and base.bit_length() * exponent > MAX_INTEGER_BITS:
        raise RenderBudgetExceededError("its numbers are too large")


OURS: dict[str, Callable[..., Any]] = {
    "d": default,
    "default": default,
    "indent": indent,
    "join": join,
    "replace": replace,
    "tojson": tojson,
}
ALL = {
    **{name: paid(FILTERS[name]) for name in PLAIN},
    **{name: paid(of_text(FILTERS[name])) for name in TEXT},
    **{name: paid(function) for name, function in OURS.items()},
}
