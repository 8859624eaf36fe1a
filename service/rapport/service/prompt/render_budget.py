"""Limits the CPU time of one rendering of a template, and the size of the values that it makes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextvars import ContextVar
from time import thread_time
from typing import Any

from jinja2 import TemplateRuntimeError, Undefined

MAX_CPU_S = 2.0
# The characters and items that all values may have together, including intermediate values. Each
# character or item of the conversation adds 16.
BASE_SIZE = 4_000_000
SIZE_PER_INPUT = 16
# Reading the clock takes longer than most steps, so it is read once in 64 steps.
SPENDS_PER_TIME_CHECK = 64
MAX_INTEGER_BITS = 4096

# Concrete types: `isinstance` with abstract types would take longer than all the rest here.
VIEWS: list[type[Any]] = [type({}.keys()), type({}.values()), type({}.items())]
CONTAINERS: tuple[type[Any], ...] = (list, tuple, *VIEWS)
PRINTABLE: tuple[type[Any], ...] = (str, int, float, type(None), dict, Undefined, *CONTAINERS)
SIZED: tuple[type[Any], ...] = (str, dict, *CONTAINERS)

_CURRENT: ContextVar[RenderBudget] = ContextVar("render_budget")


class RenderBudgetExceededError(TemplateRuntimeError):
    """A template takes too long, or makes too large values."""


class RenderBudget:
    """The size that is left for one rendering. Used in the thread that renders."""

    def __init__(self, inputs: Any) -> None:
        self._end = thread_time() + MAX_CPU_S
        self._spends = 0
        self._left = sys.maxsize
        self._left = BASE_SIZE + SIZE_PER_INPUT * self.measure(inputs)

    def spend(self, size: int) -> None:
        """Spends the size of a value: its characters or items.

        Raises:
            RenderBudgetExceededError: too little is left, or the CPU time is used up.
        """
        # At least 1, since templates can influence `size` and must not increase what is left.
        self._left -= max(size, 1)
        if self._left < 0:
            raise RenderBudgetExceededError("it makes more than it may")
        self._spends += 1
        if self._spends % SPENDS_PER_TIME_CHECK == 0 and thread_time() > self._end:
            raise RenderBudgetExceededError(f"it takes over {MAX_CPU_S:g} s")

    def measure(self, value: Any) -> int:
        """The size of a value with its content. Content that occurs twice counts twice.

        Raises:
            RenderBudgetExceededError: the value is larger than what is left.
        """
        size, waiting = 0, [value]
        while waiting:
            each = waiting.pop()
            size += own_size(each)
            if type(each) is not str:
                waiting.extend(_content(each))
            if size > self._left:
                raise RenderBudgetExceededError("it makes more than it may")
        return size


def begin(inputs: Any) -> None:
    """Starts a rendering with these inputs in this thread."""
    _CURRENT.set(RenderBudget(inputs))


def spend(size: int = 1) -> None:
    """Spends from the budget of the rendering in this thread, as `RenderBudget.spend`."""
    _CURRENT.get().spend(size)


def measure(value: Any) -> int:
    """Measures a value in the rendering in this thread, as `RenderBudget.measure`."""
    return _CURRENT.get().measure(value)


def charge(value: Any) -> Any:
    """Spends the size of a value with its content, and returns the value."""
    spend(measure(value))
    return value


def charge_text(value: Any) -> Any:
    """Spends the size of a value that is to become text, and returns the value.

    Raises:
        RenderBudgetExceededError: the value is too large, or of a type that cannot be printed.
    """
    if type(value) is str:
        spend(len(value))
        return value
    if not isinstance(value, PRINTABLE):
        raise RenderBudgetExceededError(f"a {type(value).__name__} cannot be written")
    return charge(value)


def own_size(value: Any) -> int:
    """The size of a value without its content."""
    if type(value) is str:
        return 1 + len(value)
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise RenderBudgetExceededError("its numbers are too large")
    return 1 + (len(value) if isinstance(value, SIZED) else 0)


def _content(value: Any) -> Iterable[Any]:
    """The content of a value: its items, or its keys and values."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, CONTAINERS) else ()
