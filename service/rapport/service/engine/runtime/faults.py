"""Fault injection, for tests: calls to the runner that fail, hang or are delayed.

A list such as `prefill:raise@3,decode:delay=0.5` gives for each fault a point, an action and the
call at which it happens: `@3` is the third call, `@3+` the third and all later ones, and without
either it is every call. Points are the methods of `Runner` and of `SlotMemory`, and `text`, which
turns a token into bytes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import ParamSpec, Self, TypeVar

POINTS = ("decode", "prefill", "verify", "copy", "exchange", "read", "write", "text")
ACTIONS = ("raise", "oom", "die", "hang", "delay")

_FAULT = re.compile(r"(\w+):(\w+)(?:=(\d*\.?\d+))?(?:@(\d+)(\+?))?")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class InjectedCrashError(BaseException):
    """Ends the engine's thread. It is no `Exception`, so no step catches it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens before some calls at one point; calls are counted from 1."""

    point: str
    action: str
    seconds: float = 0.0
    first: int = 1
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses `POINT:ACTION[=SECONDS][@CALL[+]]`.

        Raises:
            ValueError: the text is no fault.
        """
        match = _FAULT.fullmatch(text.strip())
        if match is None or match[1] not in POINTS or match[2] not in ACTIONS:
            raise ValueError(f"{text!r} is no fault: POINT:ACTION[=SECONDS][@CALL[+]]")
        if (match[2] == "delay") != (match[3] is not None):
            raise ValueError(f"{text!r}: delay, and it alone, takes seconds")
        first = int(match[4] or 1)
        last = first if match[4] and not match[5] else None
        return cls(match[1], match[2], float(match[3] or 0), first, last)

    def happens_at(self, call: int) -> bool:
        """Whether this call, counted from 1, is to fail."""
        return self.first <= call and (self.last is None or call <= self.last)

    def inject(self) -> None:
        """Carries out the action."""
        match self.action:
            case "raise":
                raise RuntimeError("an injected fault")
            case "oom":
                raise MemoryError
            case "die":
                raise InjectedCrashError
            case "hang":
                threading.Event().wait()
            case _:
                time.sleep(self.seconds)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Parses a comma-separated list, which may be empty.

    Raises:
        ValueError: an item is no fault.
    """
    return tuple(map(Fault.parse, text.split(","))) if text else ()


def with_faults(
    function: Callable[_P, _R], point: str, faults: Iterable[Fault]
) -> Callable[_P, _R]:
    """The function, with the faults of a point injected before its calls."""
    own = [fault for fault in faults if fault.point == point]
    calls = count(1)

    def faulty(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        call = next(calls)
        for fault in own:
            if fault.happens_at(call):
                fault.inject()
        return function(*args, **kwargs)

    return faulty if own else function
