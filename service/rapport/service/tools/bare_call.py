"""Recognizes calls without tags, as some models write them: JSON, alone or in a block of code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rapport.service.tools.call_format import BLANK, BLANKS

FENCE = "```"
LANGUAGE = re.compile(f"{FENCE}[A-Za-z]*")
# Beside the name. What is longer is text: each piece of it would cost a look at all of it.
MAX_HEAD_CHARS = 1000


def bare_head(names: str) -> str:
    """The pattern of a call without tags up to its arguments, with a pattern of names.

    It may stand in a block of code, and another block may end before it.
    """
    blocks = f"({BLANK}*{FENCE}[A-Za-z]*){{0,2}}"
    symbols = (r"\{", '"name"', ":", f'"({names})"', ",", '"(arguments|parameters)"', ":")
    return blocks + "".join(f"{BLANK}*{symbol}" for symbol in symbols)


class BareCallHead:
    """Finds the beginning of a call of one of these functions, up to the brace of its arguments."""

    def __init__(self, names: Sequence[str]) -> None:
        pattern = "|".join(map(re.escape, names))
        self._pattern = re.compile(rf"{bare_head(f'(?P<name>{pattern})')}{BLANK}*\{{")
        self._max_chars = MAX_HEAD_CHARS + max(map(len, names), default=0)
        quoted = tuple(f'"{name}"' for name in names)
        arguments = ('"arguments"', '"parameters"')
        self._symbols = (("{",), ('"name"',), (":",), quoted, (",",), arguments, (":",), ("{",))

    def match(self, text: str) -> re.Match[str] | None:
        """The head at the start of a text, with the `name` of the function."""
        return self._pattern.match(text, 0, self._max_chars)

    def may_become(self, text: str) -> bool:
        """Whether a text is the beginning of a head."""
        if len(text) >= self._max_chars:
            return False
        rest = text.lstrip(BLANKS)
        for _ in range(2):
            if block := LANGUAGE.match(rest):
                rest = rest[block.end() :].lstrip(BLANKS)
        if FENCE.startswith(rest):
            return True
        for alternatives in self._symbols:
            if any(symbol.startswith(rest) for symbol in alternatives):
                return True
            found = next((symbol for symbol in alternatives if rest.startswith(symbol)), None)
            if found is None:
                return False
            rest = rest.removeprefix(found).lstrip(BLANKS)
        return True
