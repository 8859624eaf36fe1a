"""How much one rendering of a template may take and make."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextvars import ContextVar
from time import thread_time
from typing import Any

from jinja2 import TemplateRuntimeError, Undefined

MAX_CPU_S = 2.0
# Characters and items that values may have together, those on the way included; for each
# of the conversation so many more.
BASE_SIZE = 4_000_000
SIZE_PER_INPUT = 16
# To ask for the time takes longer than most of what is paid for.
SPENDS_PER_TIME_CHECK = 64
MAX_INTEGER_BITS = 4096

# The types themselves: asking for abstract ones takes longer than all else here.
VIEWS: list[type[Any]] = [type({}.keys()), type({}.values()), type({}.items())]
CONTAINERS: tuple[type[Any], ...] = (list, tuple, *VIEWS)
WRITABLE: tuple[type[Any], ...] = (str, int, float, type(None), dict, Undefined, *CONTAINERS)
SIZED: tuple[type[Any], ...] = (str, dict, *CONTAINERS)

_CURRENT: ContextVar[RenderBudget] = ContextVar("render_budget")


class RenderBudgetExceededError(TemplateRuntimeError):
    """A template takes or makes more than it may."""


class RenderBudget:
    """What is left to a rendering, in its thread."""

    def __init__(self, given: Any) -> None:
        self._end = thread_time() + MAX_CPU_S
        self._paid = 0
        self._left = sys.maxsize
        self._left = BASE_SIZE + SIZE_PER_INPUT * self.measure(given)

    def spend(self, size: int) -> None:
        """Pays for a value of so many characters or items.

        Raises:
            Exceeded: there is not enough left, or time is over.
        """
        # Templates can call what calls this, and must not gain by it.
        self._left -= max(size, 1)
        if self._left < 0:
            raise RenderBudgetExceededError("it makes more than it may")
        self._paid += 1
        if self._paid % SPENDS_PER_TIME_CHECK == 0 and thread_time() > self._end:
            raise RenderBudgetExceededError(f"it takes over {MAX_CPU_S:g} s")

    def measure(self, value: Any) -> int:
        """The size of a value with all that is in it, counted wherever it occurs.

        Raises:
            Exceeded: it is larger than what is left.
        """
        size, waiting = 0, [value]
        while waiting:
            each = waiting.pop()
            size += own_size(each)
            if type(each) is not str:
                waiting.extend(parts(each))
            if size > self._left:
                raise RenderBudgetExceededError("it makes more than it may")
        return size


def begin(given: Any) -> None:
    """Starts a rendering of `given` in this thread."""
    _CURRENT.set(RenderBudget(given))


def spend(size: int = 1) -> None:
    """As `Allowance.spend`."""
    _CURRENT.get().spend(size)


def measure(value: Any) -> int:
    """As `Allowance.measure`."""
    return _CURRENT.get().measure(value)


def charge(value: Any) -> Any:
    """The value, paid for with all that is in it."""
    spend(measure(value))
    return value


def charge_text(value: Any) -> Any:
    """The value, paid for as text.

    Raises:
        Exceeded: it is too large, or nothing that has a text.
    """
    if type(value) is str:
        spend(len(value))
        return value
    if not isinstance(value, WRITABLE):
        raise RenderBudgetExceededError(f"a {type(value).__name__} cannot be written")
    return charge(value)


def own_size(value: Any) -> int:
    """The size of a value without what is in it."""
    if type(value) is str:
        return 1 + len(value)
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise RenderBudgetExceededError("its numbers are too large")
    return 1 + (len(value) if isinstance(value, SIZED) else 0)


def parts(value: Any) -> Iterable[Any]:
    """What is in a value."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, CONTAINERS) else ()
