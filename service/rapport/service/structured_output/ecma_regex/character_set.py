"""Sets of Unicode characters, as ranges of code points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Range = tuple[int, int]
"""A first and a last code point."""

MAX_CODE_POINT = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """Characters by their code points. Surrogates are no characters.

    `properties` are classes by Unicode's properties, in the syntax of the grammar engine. What
    they hold belongs to the set too; if it is `negated`, the set is all that is in neither.
    """

    ranges: tuple[Range, ...] = ()
    properties: tuple[str, ...] = ()
    negated: bool = False

    @classmethod
    def of(cls, *ranges: Range) -> CharacterSet:
        """The characters in any of some ranges."""
        return cls(tuple(_merged(ranges)))

    @classmethod
    def of_text(cls, text: str) -> CharacterSet:
        """The characters of a text."""
        return cls.of(*((ord(character), ord(character)) for character in text))

    @classmethod
    def union(cls, sets: Sequence[CharacterSet]) -> CharacterSet:
        """The characters in any of some sets."""
        ranges = (each for part in sets for each in part.ranges)
        properties = (each for part in sets for each in part.properties)
        return cls(tuple(_merged(ranges)), tuple(properties))

    @property
    def empty(self) -> bool:
        """Whether it is known to have no character."""
        return not self.ranges and not self.properties

    @property
    def pattern(self) -> str:
        """The set as a class of the grammar engine's syntax."""
        ranges = (
            numbered(first) if first == last else f"{numbered(first)}-{numbered(last)}"
            for first, last in self.ranges
        )
        sign = "^" if self.negated else ""
        return f"[{sign}{''.join(ranges)}{''.join(self.properties)}]"

    def __contains__(self, character: str) -> bool:
        """Whether it is in one of the ranges."""
        return any(first <= ord(character) <= last for first, last in self.ranges)

    def __or__(self, other: CharacterSet) -> CharacterSet:
        return CharacterSet.union((self, other))

    def complement(self) -> CharacterSet:
        """All other characters."""
        if self.properties:
            return CharacterSet(self.ranges, self.properties, not self.negated)
        return CharacterSet(tuple(_merged(_gaps(self.ranges))))

    def intersection(self, other: CharacterSet) -> CharacterSet:
        """The characters of both. Neither may have properties."""
        return (self.complement() | other.complement()).complement()


def numbered(code_point: int) -> str:
    """A character by its number, in the grammar engine's syntax."""
    return f"\\x{{{code_point:X}}}"


def _merged(ranges: Iterable[Range]) -> Iterator[Range]:
    """The same characters without surrogates, in ranges that are in order and apart."""
    current: Range | None = None
    for first, last in sorted(_without_surrogates(ranges)):
        if current and first <= current[1] + 1:
            current = (current[0], max(current[1], last))
            continue
        if current:
            yield current
        current = (first, last)
    if current:
        yield current


def _without_surrogates(ranges: Iterable[Range]) -> Iterator[Range]:
    for first, last in ranges:
        parts = (first, min(last, SURROGATES[0] - 1)), (max(first, SURROGATES[1] + 1), last)
        yield from (part for part in parts if part[0] <= part[1])


def _gaps(ranges: Iterable[Range]) -> Iterator[Range]:
    """The ranges between some that are in order and apart."""
    start = 0
    for first, last in ranges:
        if start < first:
            yield start, first - 1
        start = last + 1
    if start <= MAX_CODE_POINT:
        yield start, MAX_CODE_POINT


EVERY_CHARACTER = CharacterSet.of((0, MAX_CODE_POINT))
DIGITS = CharacterSet.of((0x30, 0x39))
WORD = DIGITS | CharacterSet.of((0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
LINE_ENDS = CharacterSet.of_text("\n\r\u2028\u2029")
SPACES = LINE_ENDS | CharacterSet.of(
    (0x09, 0x0C),
    *((0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)
DOT = LINE_ENDS.complement()
