"""Reads calls out of text as it comes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rapport.service.tools.hermes_format import CLOSE, OPEN

BLANKS = " \t\r\n"
# How many blanks may stand between two signs of a call's markup.
MOST_BLANKS = 8
GAP = rf"[{BLANKS}]{{0,{MOST_BLANKS}}}"
# A call up to the brace that opens its arguments, and from the brace after them.
HEAD = ("{", '"name"', ":", '"(?P<name>{names})"', ",", '"arguments"', ":", r"\{{")
TAIL = re.compile(rf"{GAP}\}}?{GAP}{CLOSE}")
LONGEST_TAIL = 1 + 2 * MOST_BLANKS + len(CLOSE)


@dataclass(frozen=True, slots=True)
class Said:
    """Text that is no call."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """The beginning of a call."""

    name: str


@dataclass(frozen=True, slots=True)
class Argued:
    """A fragment of the arguments of the call that began last."""

    text: str


Event = Said | Called | Argued


class CallReader:
    """Tells text and calls apart.

    What is said is given out at once, but for blanks and what may be the beginning of a
    tag. A call begins when all is there up to the brace of its arguments, so that what
    is no call after all, or calls what is not in `names`, can still come out as the text
    that it is. Blanks next to a call are dropped.
    """

    def __init__(self, names: Iterable[str]) -> None:
        names = sorted(names)
        self._head, self._longest_head = head_of(names)
        self._arguments = ObjectEnd()
        self._held = ""
        self._state: Callable[[], Iterator[Event]] = self._read_text
        self.calls = 0
        """How many calls began."""

    @property
    def cut(self) -> bool:
        """Whether the arguments of a call are not complete."""
        return self._state == self._read_arguments

    def push(self, text: str) -> Iterator[Event]:
        """What the text makes certain."""
        self._held += text
        state = None
        while state != self._state:
            state = self._state
            yield from state()

    def end(self) -> Iterator[Event]:
        """What was held back, now that no more text comes."""
        if self._state == self._read_tail:
            self._held = without_beginning_of_tail(self._held)
            self._state = self._read_text
            yield from self.push("")
        while self._state == self._read_head:
            yield self._no_call()
            yield from self.push("")
        if self._held.strip(BLANKS) or (self._held and not self.calls):
            yield Said(self._take(len(self._held)))

    def _read_text(self) -> Iterator[Event]:
        before, tag, _ = self._held.partition(OPEN)
        if tag:
            self._state = self._read_head
        said = self._take(len(before.rstrip(BLANKS)) if tag else certain(self._held))
        if said:
            yield Said(said)

    def _read_head(self) -> Iterator[Event]:
        found = self._head.match(self._held)
        inside = self._held.partition(OPEN)[2]
        if found:
            self._take(found.end() - 1)
            self.calls += 1
            self._arguments = ObjectEnd()
            self._state = self._read_arguments
            yield Called(found["name"])
        elif "<" in inside or len(inside) >= self._longest_head:
            yield self._no_call()

    def _no_call(self) -> Event:
        self._state = self._read_text
        return Said(self._take(self._held.index(OPEN) + len(OPEN)))

    def _read_arguments(self) -> Iterator[Event]:
        fragment = self._take(self._arguments.push(self._held))
        if self._arguments.found:
            self._state = self._read_tail
        if fragment:
            yield Argued(fragment)

    def _read_tail(self) -> Iterator[Event]:
        found = TAIL.match(self._held)
        if found or len(self._held) >= LONGEST_TAIL:
            self._take(found.end() if found else 0)
            self._state = self._read_text
        return iter(())

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken


class ObjectEnd:
    """Finds the end of a JSON object that comes in pieces, by its brackets and strings."""

    def __init__(self) -> None:
        self.found = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def push(self, text: str) -> int:
        """How many characters of the text belong to the object."""
        for place, character in enumerate(text, start=1):
            if self._in_string:
                self._read_in_string(character)
            else:
                self._read(character)
            if not self._depth:
                self.found = True
                return place
        return len(text)

    def _read(self, character: str) -> None:
        if character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        elif character == '"':
            self._in_string = True

    def _read_in_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False


def head_of(names: list[str]) -> tuple[re.Pattern[str], int]:
    """The pattern of a call up to its arguments, and how long it can be after its tag."""
    signs = [sign.format(names="|".join(map(re.escape, names))) for sign in HEAD[1:]]
    pattern = rf"[{BLANKS}]*{OPEN}" + "".join(GAP + sign for sign in (r"\{", *signs))
    written = sum(map(len, ("{", '"name"', ":", '""', ",", '"arguments"', ":", "{")))
    return re.compile(pattern), written + max(map(len, names)) + MOST_BLANKS * len(HEAD)


def certain(text: str) -> int:
    """The length of a text without blanks and beginnings of a tag at its end."""
    lengths = range(len(OPEN) - 1, 0, -1)
    begun = next((length for length in lengths if text.endswith(OPEN[:length])), 0)
    return len(text[: len(text) - begun].rstrip(BLANKS))


def without_beginning_of_tail(text: str) -> str:
    """What is left of a text when no more comes, and it may be the beginning of a tail."""
    rest = text.lstrip(BLANKS).removeprefix("}").lstrip(BLANKS)
    return "" if CLOSE.startswith(rest) else text
