"""Parses tool calls out of generated text while it is generated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rapport.service.tools.bare_call import BareCallHead
from rapport.service.tools.hermes_format import BLANKS, CLOSE_TAG, GAP, MAX_BLANKS, OPEN_TAG

# The markup of a call up to and with the brace that opens its arguments.
HEAD = ("{", '"name"', ":", '"(?P<name>{names})"', ",", '"arguments"', ":", r"\{{")
# The markup of a call after its arguments.
TAIL = re.compile(rf"{GAP}\}}?{GAP}{CLOSE_TAG}")
MAX_TAIL_CHARS = 1 + 2 * MAX_BLANKS + len(CLOSE_TAG)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of text outside of calls."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The beginning of a call of the function `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """A piece of the arguments (JSON text) of the call that began last."""

    text: str


ParserEvent = TextDelta | CallStart | ArgumentsDelta


class ToolCallParser:
    """Separates text from tool calls.

    Text is returned at once, except for blanks and for what may be the beginning of a tag.
    A call begins only when everything up to the brace of its arguments has arrived. Until then
    it can still turn out not to be a call, or to call a function that is not in `names`, and
    is then returned as text. Blanks around a call are dropped.

    Text that begins with a call without tags, alone or in a block of code, is one as well: some
    models forget the tags. Others of the kind may follow it.
    """

    def __init__(self, names: Iterable[str]) -> None:
        names = sorted(names)
        self._head, self._max_head_chars = _head_pattern(names)
        self._bare_head = BareCallHead(names)
        self._arguments = ObjectEnd()
        self._pending = ""
        self._state: Callable[[], Iterator[ParserEvent]] = self._parse_start
        self._is_bare = False
        """Whether the call that began last has no tags."""
        self.calls = 0
        """The number of calls that began."""

    @property
    def in_arguments(self) -> bool:
        """Whether a call began and its arguments are not complete."""
        return self._state == self._parse_arguments

    def push(self, text: str) -> Iterator[ParserEvent]:
        """Takes the next piece of text, and returns the events that are now certain."""
        self._pending += text
        state = None
        while state != self._state:
            state = self._state
            yield from state()

    def end(self) -> Iterator[ParserEvent]:
        """Returns the events of the text still held back. No more text may be pushed."""
        if self._state == self._parse_tail:
            self._pending = _strip_partial_tail(self._pending)
            self._state = self._parse_text
            yield from self.push("")
        if self._state in (self._parse_bare_tail, self._parse_start) and self.calls:
            # The end of a block of code, or a call that was cut.
            self._pending = ""
        if self._state == self._parse_start:
            self._state = self._parse_text
            yield from self.push("")
        while self._state == self._parse_head:
            yield self._tag_as_text()
            yield from self.push("")
        if self._pending.strip(BLANKS) or (self._pending and not self.calls):
            yield TextDelta(self._take(len(self._pending)))

    def _parse_start(self) -> Iterator[ParserEvent]:
        """Parses the start of the text, or of what follows a call without tags."""
        if found := self._bare_head.match(self._pending):
            self._is_bare = True
            yield self._begin_call(found)
        elif not self._bare_head.may_become(self._pending):
            self._state = self._parse_text

    def _parse_text(self) -> Iterator[ParserEvent]:
        before, tag, _ = self._pending.partition(OPEN_TAG)
        if tag:
            self._state = self._parse_head
        length = len(before.rstrip(BLANKS)) if tag else _certain_length(self._pending)
        if text := self._take(length):
            yield TextDelta(text)

    def _parse_head(self) -> Iterator[ParserEvent]:
        found = self._head.match(self._pending)
        inside = self._pending.partition(OPEN_TAG)[2]
        if found:
            self._is_bare = False
            yield self._begin_call(found)
        elif "<" in inside or len(inside) >= self._max_head_chars:
            yield self._tag_as_text()

    def _begin_call(self, head: re.Match[str]) -> ParserEvent:
        self._take(head.end() - 1)
        self.calls += 1
        self._arguments = ObjectEnd()
        self._state = self._parse_arguments
        return CallStart(head["name"])

    def _tag_as_text(self) -> ParserEvent:
        self._state = self._parse_text
        return TextDelta(self._take(self._pending.index(OPEN_TAG) + len(OPEN_TAG)))

    def _parse_arguments(self) -> Iterator[ParserEvent]:
        fragment = self._take(self._arguments.push(self._pending))
        if self._arguments.found:
            self._state = self._parse_bare_tail if self._is_bare else self._parse_tail
        if fragment:
            yield ArgumentsDelta(fragment)

    def _parse_tail(self) -> Iterator[ParserEvent]:
        found = TAIL.match(self._pending)
        if found or len(self._pending) >= MAX_TAIL_CHARS:
            self._take(found.end() if found else 0)
            self._state = self._parse_text
        return iter(())

    def _parse_bare_tail(self) -> Iterator[ParserEvent]:
        self._pending = self._pending.lstrip(BLANKS)
        if self._pending:
            self._pending = self._pending.removeprefix("}")
            self._state = self._parse_start
        return iter(())

    def _take(self, length: int) -> str:
        taken, self._pending = self._pending[:length], self._pending[length:]
        return taken


class ObjectEnd:
    """Finds the end of a JSON object that arrives in pieces, by its brackets and strings."""

    def __init__(self) -> None:
        self.found = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def push(self, text: str) -> int:
        """Returns how many characters of the text belong to the object."""
        for length, character in enumerate(text, start=1):
            if self._in_string:
                self._read_in_string(character)
            else:
                self._read(character)
            if not self._depth:
                self.found = True
                return length
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


def _head_pattern(names: list[str]) -> tuple[re.Pattern[str], int]:
    """The pattern of a call up to its arguments, and its greatest length after the tag."""
    symbols = [symbol.format(names="|".join(map(re.escape, names))) for symbol in HEAD[1:]]
    pattern = rf"[{BLANKS}]*{OPEN_TAG}" + "".join(GAP + symbol for symbol in (r"\{", *symbols))
    written = sum(map(len, ("{", '"name"', ":", '""', ",", '"arguments"', ":", "{")))
    return re.compile(pattern), written + max(map(len, names)) + MAX_BLANKS * len(HEAD)


def _certain_length(text: str) -> int:
    """The length of a text without the blanks or the beginning of a tag at its end."""
    lengths = range(len(OPEN_TAG) - 1, 0, -1)
    partial = next((length for length in lengths if text.endswith(OPEN_TAG[:length])), 0)
    return len(text[: len(text) - partial].rstrip(BLANKS))


def _strip_partial_tail(text: str) -> str:
    """Drops a text that is the beginning of a call's tail, and keeps any other."""
    rest = text.lstrip(BLANKS).removeprefix("}").lstrip(BLANKS)
    return "" if CLOSE_TAG.startswith(rest) else text
