"""Reads a text from its beginning to its end."""

from __future__ import annotations

import re


class Scanner:
    """A text and how far it has been read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._text)

    @property
    def next(self) -> str:
        """The character that comes next; empty at the end."""
        return self._text[self._position : self._position + 1]

    def pop(self) -> str:
        """Reads one character; empty at the end."""
        character = self.next
        self._position += len(character)
        return character

    def take(self, text: str) -> bool:
        """Reads a text, if it comes next."""
        if not self._text.startswith(text, self._position):
            return False
        self._position += len(text)
        return True

    def looking_at(self, expression: re.Pattern[str]) -> bool:
        """Whether what comes next matches."""
        return expression.match(self._text, self._position) is not None

    def match(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        """Reads what matches, if that comes next."""
        found = expression.match(self._text, self._position)
        if found:
            self._position = found.end()
        return found
