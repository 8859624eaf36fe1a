"""The characters that a model can write."""

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
UNWRITABLE = "nothing that the model can write"
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
    """The characters that can stand in an answer. All others are kept out, or refused."""

    characters: CharacterSet
    """Those that can stand in a string of JSON."""
    text_characters: CharacterSet
    """Those that can stand in a text that is no JSON."""

    @classmethod
    def of_bytes(cls, writable: frozenset[int]) -> Alphabet:
        """The alphabet of a model that has tokens for these bytes."""
        missing = CharacterSet.of(*_characters_without(writable))
        in_strings = (missing | CharacterSet.of(*WITH_LONG_ESCAPE)).complement()
        return cls(in_strings | CharacterSet.of_text(SHORT_ESCAPES), missing.complement())

    def missing(self, text: str) -> str | None:
        """The first character that cannot be written into a string of JSON, if there is one.

        Every vocabulary has tokens for the characters of ASCII that can be printed.
        """
        if text.isascii() and text.isprintable():
            return None
        return next((character for character in text if character not in self.characters), None)


def _characters_without(writable: frozenset[int]) -> Iterator[Range]:
    """The characters whose first byte cannot be written.

    Bytes that are not a first one are in so many characters that every vocabulary has them.
    """
    for bytes_, bits, lowest in LEADS:
        for byte in set(bytes_) - writable:
            first = (byte & LEAD_BITS >> bits // 6) << bits
            yield max(first, lowest), min(first + (1 << bits) - 1, MAX_CODE_POINT)


EVERY_BYTE = Alphabet.of_bytes(frozenset(range(256)))
