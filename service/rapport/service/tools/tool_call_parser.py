"""Parses tool calls out of generated text while it is generated."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rapport.service.tools.bare_call import BareCallHead
from rapport.service.tools.call_format import BLANKS, HERMES, CallFormat
from rapport.service.tools.call_markup import CallMarkup


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

    Text is returned at once, except for blanks and for what may be the beginning of a marker.
    A call begins only when everything up to the brace of its arguments has arrived. Until then
    it can still turn out not to be a call, or to call a function that is not in `names`, and
    is then returned as text. Blanks around a call are dropped.

    Text that begins with a call without tags, alone or in a block of code, is one as well: some
    models forget the tags. Others of the kind may follow it.
    """

    def __init__(self, names: Iterable[str], form: CallFormat = HERMES) -> None:
        names = sorted(names)
        self._marker = form.marker
        self._markup = CallMarkup(form, names)
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
            self._pending = self._markup.without_tail(self._pending)
            self._state = self._parse_text
            yield from self.push("")
        if self._state in (self._parse_bare_tail, self._parse_start) and self.calls:
            # The end of a block of code, or a call that was cut.
            self._pending = ""
        if self._state == self._parse_start:
            self._state = self._parse_text
            yield from self.push("")
        while self._state == self._parse_head:
            yield self._marker_as_text()
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
        before, marker, _ = self._pending.partition(self._marker)
        if marker:
            self._state = self._parse_head
        length = len(before.rstrip(BLANKS)) if marker else self._certain_length()
        if text := self._take(length):
            yield TextDelta(text)

    def _parse_head(self) -> Iterator[ParserEvent]:
        found = self._markup.first_head.match(self._pending)
        inside = self._pending.partition(self._marker)[2]
        if found:
            self._is_bare = False
            yield self._begin_call(found)
        elif self._marker in inside or len(inside) >= self._markup.max_head_chars:
            yield self._marker_as_text()

    def _begin_call(self, head: re.Match[str]) -> ParserEvent:
        self._take(head.end() - 1)
        self.calls += 1
        self._arguments = ObjectEnd()
        self._state = self._parse_arguments
        return CallStart(head["name"])

    def _marker_as_text(self) -> ParserEvent:
        self._state = self._parse_text
        return TextDelta(self._take(self._pending.index(self._marker) + len(self._marker)))

    def _parse_arguments(self) -> Iterator[ParserEvent]:
        fragment = self._take(self._arguments.push(self._pending))
        if self._arguments.found:
            self._state = self._parse_bare_tail if self._is_bare else self._parse_tail
        if fragment:
            yield ArgumentsDelta(fragment)

    def _parse_tail(self) -> Iterator[ParserEvent]:
        if found := self._markup.next_head.match(self._pending):
            yield self._begin_call(found)
        elif found := self._markup.tail.match(self._pending):
            self._take(found.end())
            self._state = self._parse_text
        elif len(self._pending) >= self._markup.max_tail_chars:
            self._state = self._parse_text

    def _parse_bare_tail(self) -> Iterator[ParserEvent]:
        self._pending = self._pending.lstrip(BLANKS)
        if self._pending:
            self._pending = self._pending.removeprefix("}")
            self._state = self._parse_start
        return iter(())

    def _certain_length(self) -> int:
        """The length of the text without the blanks or the beginning of a marker at its end."""
        text, marker = self._pending, self._marker
        lengths = range(len(marker) - 1, 0, -1)
        partial = next((length for length in lengths if text.endswith(marker[:length])), 0)
        return len(text[: len(text) - partial].rstrip(BLANKS))

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
