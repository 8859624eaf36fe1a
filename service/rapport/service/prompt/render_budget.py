"""How much one rendering of a template may take and make."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextvars import ContextVar
from time import thread_time
from typing import Any

from jinja2 import TemplateRuntimeError, Undefined

SECONDS = 2.0  # of computing
# Characters and items that values may have together, those on the way included; for each
# of the conversation so many more.
LEAST = 4_000_000
FOR_EACH = 16
# To ask for the time takes longer than most of what is paid for.
UNTIMED = 64
MOST_BITS = 4096

# The types themselves: asking for abstract ones takes longer than all else here.
VIEWS: list[type[Any]] = [type({}.keys()), type({}.values()), type({}.items())]
CONTAINERS: tuple[type[Any], ...] = (list, tuple, *VIEWS)
WRITABLE: tuple[type[Any], ...] = (str, int, float, type(None), dict, Undefined, *CONTAINERS)
SIZED: tuple[type[Any], ...] = (str, dict, *CONTAINERS)

_CURRENT: ContextVar[Allowance] = ContextVar("allowance")


class Exceeded(TemplateRuntimeError):
    """A template takes or makes more than it may."""


class Allowance:
    """What is left to a rendering, in its thread."""

    def __init__(self, given: Any) -> None:
        self._end = thread_time() + SECONDS
        self._paid = 0
        self._left = sys.maxsize
        self._left = LEAST + FOR_EACH * self.measure(given)

    def spend(self, size: int) -> None:
        """Pays for a value of so many characters or items.

        Raises:
            Exceeded: there is not enough left, or time is over.
        """
        # Templates can call what calls this, and must not gain by it.
        self._left -= max(size, 1)
        if self._left < 0:
            raise Exceeded("it makes more than it may")
        self._paid += 1
        if self._paid % UNTIMED == 0 and thread_time() > self._end:
            raise Exceeded(f"it takes over {SECONDS:g} s")

    def measure(self, value: Any) -> int:
        """The size of a value with all that is in it, counted wherever it occurs.

        Raises:
            Exceeded: it is larger than what is left.
        """
        size, waiting = 0, [value]
        while waiting:
            each = waiting.pop()
            size += weight(each)
            if type(each) is not str:
                waiting.extend(parts(each))
            if size > self._left:
                raise Exceeded("it makes more than it may")
        return size


def begin(given: Any) -> None:
    """Starts a rendering of `given` in this thread."""
    _CURRENT.set(Allowance(given))


def spend(size: int = 1) -> None:
    """As `Allowance.spend`."""
    _CURRENT.get().spend(size)


def measure(value: Any) -> int:
    """As `Allowance.measure`."""
    return _CURRENT.get().measure(value)


def charged(value: Any) -> Any:
    """The value, paid for with all that is in it."""
    spend(measure(value))
    return value


def written(value: Any) -> Any:
    """The value, paid for as text.

    Raises:
        Exceeded: it is too large, or nothing that has a text.
    """
    if type(value) is str:
        spend(len(value))
        return value
    if not isinstance(value, WRITABLE):
        raise Exceeded(f"a {type(value).__name__} cannot be written")
    return charged(value)


def weight(value: Any) -> int:
    """The size of a value without what is in it."""
    if type(value) is str:
        return 1 + len(value)
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise Exceeded("its numbers are too large")
    return 1 + (len(value) if isinstance(value, SIZED) else 0)


def parts(value: Any) -> Iterable[Any]:
    """What is in a value."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, CONTAINERS) else ()
