"""Parses escapes and classes of regular expressions of ECMA-262."""

from __future__ import annotations

import re

from rapport.service.structured_output.ecma_regex.character_set import (
    DIGITS,
    MAX_CODE_POINT,
    SPACES,
    WORD,
    CharacterSet,
)
from rapport.service.structured_output.ecma_regex.errors import (
    PatternSyntaxError,
    UnsupportedPatternError,
)
from rapport.service.structured_output.ecma_regex.scanner import Scanner

CLASSES = {
    "d": DIGITS,
    "w": WORD,
    "s": SPACES,
    "D": DIGITS.complement(),
    "W": WORD.complement(),
    "S": SPACES.complement(),
}
CONTROLS = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
CONTROL_LETTER = re.compile(r"c([A-Za-z])")
NUL = re.compile(r"0(?![0-9])")
SURROGATE_PAIR = re.compile(r"u([Dd][89ABab][0-9A-Fa-f]{2})\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")
CODE_POINT = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{0*([0-9A-Fa-f]{1,6})\}")
PROPERTY = re.compile(r"([pP])\{(\w+(?:=\w+)?)\}", re.ASCII)
BACKREFERENCE = "refers to a group"
BOUNDARY = "looks at the characters around it"
UNSUPPORTED = {
    **dict.fromkeys("123456789k", BACKREFERENCE),
    **dict.fromkeys("bB", BOUNDARY),
}


def parse_escape(scanner: Scanner) -> CharacterSet:
    """What an escape outside of a class stands for. The backslash has been read.

    Raises:
        PatternSyntaxError: ECMA-262 has no such escape.
        UnsupportedPatternError: no grammar can have what it means.
    """
    return _set_of(_escaped(scanner))


def parse_class(scanner: Scanner) -> CharacterSet:
    """The characters of a class. The bracket that opens it has been read.

    Raises:
        PatternSyntaxError: it does not end, or as `parse_escape`.
    """
    negated = scanner.take("^")
    parts = []
    while not scanner.take("]"):
        first = _class_atom(scanner)
        parts.append(_range_from(scanner, first) if scanner.take("-") else _set_of(first))
    found = CharacterSet.union(parts)
    return found.complement() if negated else found


def _range_from(scanner: Scanner, first: int | CharacterSet) -> CharacterSet:
    """The range whose hyphen has been read, or its ends and the hyphen if that makes no range."""
    hyphen = CharacterSet.of_text("-")
    if scanner.next == "]":
        return _set_of(first) | hyphen
    last = _class_atom(scanner)
    if isinstance(first, CharacterSet) or isinstance(last, CharacterSet):
        return _set_of(first) | hyphen | _set_of(last)
    if first > last:
        raise PatternSyntaxError("the ends of a range of characters are out of order")
    return CharacterSet.of((first, last))


def _class_atom(scanner: Scanner) -> int | CharacterSet:
    if scanner.at_end:
        raise PatternSyntaxError("a '[' has no ']'")
    if scanner.take("\\"):
        return ord("\b") if scanner.take("b") else _escaped(scanner)
    return ord(scanner.pop())


def _set_of(atom: int | CharacterSet) -> CharacterSet:
    return atom if isinstance(atom, CharacterSet) else CharacterSet.of((atom, atom))


def _escaped(scanner: Scanner) -> int | CharacterSet:
    if scanner.next in CLASSES:
        return CLASSES[scanner.pop()]
    if found := scanner.match(PROPERTY):
        return CharacterSet(properties=(f"\\{found[1]}{{{found[2]}}}",))
    code_point = _numbered(scanner)
    if code_point is None:
        return ord(_escaped_character(scanner.pop()))
    if code_point > MAX_CODE_POINT:
        raise PatternSyntaxError("a character is beyond Unicode")
    return code_point


def _numbered(scanner: Scanner) -> int | None:
    """The code point of an escape that gives it as a number or as a control character."""
    if found := scanner.match(CONTROL_LETTER):
        return ord(found[1]) % 32
    if found := scanner.match(SURROGATE_PAIR):
        high, low = int(found[1], 16), int(found[2], 16)
        return 0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF)
    if found := scanner.match(CODE_POINT):
        return int(found[1] or found[2] or found[3], 16)
    return 0 if scanner.match(NUL) else None


def _escaped_character(character: str) -> str:
    if character in CONTROLS:
        return CONTROLS[character]
    if not character or (character.isascii() and character.isalnum()):
        raise _refusal(character)
    return character


def _refusal(character: str) -> PatternSyntaxError | UnsupportedPatternError:
    if character in UNSUPPORTED:
        return UnsupportedPatternError(f"'\\{character}' {UNSUPPORTED[character]}")
    return PatternSyntaxError(f"'\\{character}' is no escape of ECMA-262")
