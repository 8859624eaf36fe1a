"""The patterns by which the markup of calls is recognised in what a model writes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapport.service.tools.call_format import BLANKS, GAP, MAX_BLANKS, CallFormat, symbols_of

NEVER = re.compile("(?!)")


class CallMarkup:
    """The markup of calls of functions with these names; more blanks may be in it than in a format.

    Attributes:
        first_head: The marker and the head of a call with the brace of its arguments.
        next_head: The end of a call in a list and the head of the next one, likewise.
        tail: What follows the arguments of the last call.
        max_head_chars: The greatest length of a head behind the marker.
        max_tail_chars: The greatest length until a tail or the next head is certain.
    """

    def __init__(self, form: CallFormat, names: Sequence[str]) -> None:
        pattern = f"(?P<name>{'|'.join(map(re.escape, names))})"
        head = form.head_pattern(pattern, leading=form.opening)
        self.first_head = re.compile(f"[{BLANKS}]*{re.escape(form.marker)}{GAP}{head}")
        self._tail = symbols_of(form.tail + form.closing)
        self.tail = re.compile(_spaced(self._tail))
        self.max_head_chars = form.max_head_chars(names)
        self.max_tail_chars = sum(map(len, self._tail)) + MAX_BLANKS * len(self._tail)
        self.next_head = NEVER
        if form.is_list:
            self._call_tail = re.compile(_spaced(symbols_of(form.tail)))
            head = form.head_pattern(pattern, leading=form.separator or "")
            self.next_head = re.compile(f"{self._call_tail.pattern}{GAP}{head}")
            self.max_tail_chars += self.max_head_chars

    def without_tail(self, text: str) -> str:
        """Drops a text that is the beginning of a tail, and keeps any other."""
        rest = text.lstrip(BLANKS)
        for symbol in self._tail:
            if symbol.startswith(rest):
                return ""
            if rest.startswith(symbol):
                rest = rest.removeprefix(symbol).lstrip(BLANKS)
        return text


def _spaced(symbols: Sequence[str]) -> str:
    """The pattern of the end of a call, which may lack its brace if there is more."""
    patterns = list(map(re.escape, symbols))
    if len(patterns) > 1:
        patterns = [pattern.replace(r"\}", r"\}?") for pattern in patterns]
    return "".join(f"{GAP}{pattern}" for pattern in patterns)
