"""Filters and operators of chat templates. Each is charged before it makes a large value."""

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

# Filters of jinja2 that take values as they are.
VALUE_FILTERS = [
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
# Filters of jinja2 that take the text of values.
TEXT_FILTERS = [
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
MAX_INDENT = 16


def _charged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that charges for its result. The content of the result was charged before."""

    @wraps(function)
    def charging(*args: Any, **kwargs: Any) -> Any:
        spend()
        result = function(*args, **kwargs)
        spend(own_size(result))
        return result

    return charging


def _of_text(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that charges for the text of its arguments before it is called."""

    @wraps(function)
    def charging(*args: Any, **kwargs: Any) -> Any:
        spend(measure(args))
        return function(*args, **kwargs)

    return charging


def tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - as transformers has it
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """JSON without the escapes for HTML that jinja2's own filter adds."""
    spend(measure(value))
    if (len(indent) if isinstance(indent, str) else indent or 0) > MAX_INDENT:
        raise RenderBudgetExceededError("it indents too far")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None and separators is None and not ensure_ascii:
        return encoder.encode(value)
    chunks = []
    for chunk in encoder.iterencode(value):
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


def concatenate(items: list[Any]) -> str:
    """The result of the operator `~`."""
    return "".join(str(charge_text(item)) for item in items)


def check_product(left: Any, right: Any) -> None:
    """Charges for a list or text that the operator `*` repeats."""
    for times, value in ((left, right), (right, left)):
        if isinstance(times, int) and not isinstance(value, int | float):
            spend(max(times, 0) * measure(value))


def check_power(base: Any, exponent: Any) -> None:
    numbers = isinstance(base, int) and isinstance(exponent, int)
    if numbers and base.bit_length() * exponent > MAX_INTEGER_BITS:
        raise RenderBudgetExceededError("its numbers are too large")


REPLACED_FILTERS: dict[str, Callable[..., Any]] = {
    "d": default,
    "default": default,
    "indent": indent,
    "join": join,
    "replace": replace,
    "tojson": tojson,
}
ALL = {
    **{name: _charged(FILTERS[name]) for name in VALUE_FILTERS},
    **{name: _charged(_of_text(FILTERS[name])) for name in TEXT_FILTERS},
    **{name: _charged(function) for name, function in REPLACED_FILTERS.items()},
}
