"""The characters that a model can write into the strings of its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rapport.service.structured_output.ecma_regex.character_set import (
    MAX_CODE_POINT,
    CharacterSet,
    Range,
)

# JSON writes these with an escape of one letter, so that no other byte is needed.
SHORT_ESCAPES = "\b\t\n\f\r"
# Control characters need the escape that the grammar engine must not use; it drops DEL as well.
WITH_LONG_ESCAPE = ((0x00, 0x1F), (0x7F, 0x7F))
LEAD_BITS = 0x7F
# First bytes of characters, how many bits of a code point the bytes behind them hold, and the
# lowest code point of that length.
LEADS = (
    (range(0x80), 0, 0),
    (range(0xC2, 0xE0), 6, 0x80),
    (range(0xE0, 0xF0), 12, 0x800),
    (range(0xF0, 0xF5), 18, 0x10000),
)


@dataclass(frozen=True, slots=True)
class Alphabet:
    """The characters that can stand in a string. All others are kept out, or refused."""

    characters: CharacterSet

    @classmethod
    def of_bytes(cls, writable: frozenset[int]) -> Alphabet:
        """The alphabet of a model that has tokens for these bytes."""
        missing = CharacterSet.of(*WITH_LONG_ESCAPE, *_characters_without(writable))
        return cls(missing.complement() | CharacterSet.of_text(SHORT_ESCAPES))

    def missing(self, text: str) -> str | None:
        """The first character of a text that cannot be written, if there is one.

        Every vocabulary has tokens for the characters of ASCII that can be printed.
        """
        if text.isascii() and text.isprintable():
            return None
        return next((character for character in text if not self._has(ord(character))), None)

    def _has(self, code_point: int) -> bool:
        return any(first <= code_point <= last for first, last in self.characters.ranges)


def _characters_without(writable: frozenset[int]) -> Iterator[Range]:
    """The characters whose first byte cannot be written.

    Bytes that are not a first one are in so many characters that every vocabulary has them.
    """
    for bytes_, bits, lowest in LEADS:
        for byte in set(bytes_) - writable:
            first = (byte & LEAD_BITS >> bits // 6) << bits
            yield max(first, lowest), min(first + (1 << bits) - 1, MAX_CODE_POINT)


EVERY_BYTE = Alphabet.of_bytes(frozenset(range(256)))
