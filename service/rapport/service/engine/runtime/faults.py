"""Faults on purpose, for tests: calls of the runner that fail, hang or take their time.

A list such as `prefill:raise@3,decode:delay=0.5` names a point, an action, and where it is not
every call, the one that it happens at; `@3+` is that call and all later ones. Points are the
methods of `Runner` and of `SlotMemory`, and `text`, which turns a token into bytes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, ParamSpec, Self, TypeVar

from rapport.service.engine.kv.prefix_store import SlotMemory
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.text.vocabulary import Vocabulary

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
        """Raises ValueError if the text names no fault."""
        match = _FAULT.fullmatch(text.strip())
        if match is None or match[1] not in POINTS or match[2] not in ACTIONS:
            raise ValueError(f"{text!r} is no fault: POINT:ACTION[=SECONDS][@CALL[+]]")
        if (match[2] == "delay") != (match[3] is not None):
            raise ValueError(f"{text!r}: delay, and it alone, takes seconds")
        first = int(match[4] or 1)
        last = first if match[4] and not match[5] else None
        return cls(match[1], match[2], float(match[3] or 0), first, last)

    def strikes(self, call: int) -> bool:
        return self.first <= call and (self.last is None or call <= self.last)

    def strike(self) -> None:
        match self.action:
            case "raise":
                raise RuntimeError("a fault on purpose")
            case "oom":
                raise MemoryError
            case "die":
                raise InjectedCrashError
            case "hang":
                threading.Event().wait()
            case _:
                time.sleep(self.seconds)


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Faults in a list with commas; none in an empty one. Raises ValueError for other texts."""
    return tuple(map(Fault.parse, text.split(","))) if text else ()


def before(function: Callable[_P, _R], point: str, faults: Iterable[Fault]) -> Callable[_P, _R]:
    """The function, with the faults of a point before its calls."""
    own = [fault for fault in faults if fault.point == point]
    calls = count(1)

    def faulty(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        call = next(calls)
        for fault in own:
            if fault.strikes(call):
                fault.strike()
        return function(*args, **kwargs)

    return faulty if own else function


class FaultyRunner:
    """Runs as another runner does, but for its faults."""

    def __init__(self, runner: Runner, faults: Iterable[Fault]) -> None:
        faults = tuple(faults)
        self.slots = runner.slots
        memory = runner.memory
        self.memory: SlotMemory | None = None if memory is None else FaultyMemory(memory, faults)
        self.decode = before(runner.decode, "decode", faults)
        self.prefill = before(runner.prefill, "prefill", faults)
        self.verify = before(runner.verify, "verify", faults)
        self.copy = before(runner.copy, "copy", faults)
        self.exchange = before(runner.exchange, "exchange", faults)
        self.release = runner.release


class FaultyMemory:
    """Slots whose contents can be read and written but for the faults."""

    def __init__(self, memory: SlotMemory, faults: Iterable[Fault]) -> None:
        self.read = before(memory.read, "read", faults)
        self.write = before(memory.write, "write", faults)


class FaultyBytes(Sequence[bytes]):
    """What each token adds to the text, but for the faults."""

    def __init__(self, table: Sequence[bytes], faults: Iterable[Fault]) -> None:
        self._table = table
        self._look_up = before(table.__getitem__, "text", faults)

    def __getitem__(self, token: Any) -> Any:
        return self._look_up(token)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def inject_text_faults(vocabulary: Vocabulary, faults: Iterable[Fault]) -> None:
    """Lets a vocabulary fail as it is told to."""
    vocabulary.token_bytes = FaultyBytes(vocabulary.token_bytes, faults)
