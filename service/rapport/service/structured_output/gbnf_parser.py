"""Parses GBNF, as llama.cpp's `grammars/README.md` describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rapport.service.structured_output.ecma_regex.character_set import (
    EVERY_CHARACTER,
    CharacterSet,
    Range,
)

MAX_NESTING = 50
MAX_REPETITIONS = 100_000
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
MAX_CODE_POINT = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)
NAME = re.compile(r"[A-Za-z0-9_-]+")
BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
BLANK_LINES = re.compile(r"(?:\s|#[^\r\n]*)*")
COUNTS = re.compile(r"\{\s*(\d*)\s*(?:(,)\s*(\d*)\s*)?\}")
SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class GbnfError(Exception):
    """The grammar is not valid GBNF, or is too large."""


@dataclass(frozen=True, slots=True)
class LiteralText:
    """A text in quotes."""

    text: str


@dataclass(frozen=True, slots=True)
class CharacterClass:
    """One character of a set."""

    characters: CharacterSet


@dataclass(frozen=True, slots=True)
class RuleReference:
    """The name of a rule, in place of its content."""

    name: str


@dataclass(frozen=True, slots=True)
class Concatenation:
    """Parts that follow each other."""

    parts: tuple[GbnfNode, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Options, of which one matches."""

    options: tuple[GbnfNode, ...]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A part that occurs `minimum` to `maximum` times, or any number of times from `minimum`."""

    part: GbnfNode
    minimum: int
    maximum: int | None


GbnfNode = LiteralText | CharacterClass | RuleReference | Concatenation | Alternatives | Repetition


def parse_gbnf(text: str) -> dict[str, GbnfNode]:
    """The rules of a grammar, by name.

    Raises:
        GbnfError: it is not valid GBNF.
    """
    parser = GbnfParser(text)
    rules: dict[str, GbnfNode] = {}
    while not parser.at_end():
        name, rule = parser.rule()
        rules[name] = rule
    return rules


class GbnfParser:
    """Parses a grammar from front to back. Inside of parentheses a line may end anywhere."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._nesting = 0
        self._skip(BLANK_LINES)

    def at_end(self) -> bool:
        return self._position >= len(self._text)

    def rule(self) -> tuple[str, GbnfNode]:
        name = self._name()
        self._skip_blank()
        self._expect("::=")
        self._skip(BLANK_LINES)
        rule = self._alternatives()
        if not self.at_end() and self._next() not in "\r\n":
            raise self._error("a new line")
        self._skip(BLANK_LINES)
        return name, rule

    def _alternatives(self) -> GbnfNode:
        options = [self._concatenation()]
        while self._next() == "|":
            self._position += 1
            self._skip(BLANK_LINES)
            options.append(self._concatenation())
        return options[0] if len(options) == 1 else Alternatives(tuple(options))

    def _concatenation(self) -> GbnfNode:
        parts: list[GbnfNode] = []
        while (part := self._part()) is not None:
            self._skip_blank()
            if (counts := self._counts()) is not None:
                part = Repetition(part, *counts)
                self._skip_blank()
            parts.append(part)
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts))

    def _part(self) -> GbnfNode | None:
        match self._next():
            case '"':
                return self._literal()
            case "[":
                return self._characters()
            case "(":
                return self._group()
            case ".":
                self._position += 1
                return CharacterClass(EVERY_CHARACTER)
        return RuleReference(self._name()) if NAME.match(self._text, self._position) else None

    def _group(self) -> GbnfNode:
        self._expect("(")
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise GbnfError(f"parentheses should be nested at most {MAX_NESTING} deep")
        self._skip_blank()
        inside = self._alternatives()
        self._expect(")")
        self._nesting -= 1
        return inside

    def _literal(self) -> GbnfNode:
        self._expect('"')
        characters = []
        while self._next() != '"':
            characters.append(self._character())
        self._position += 1
        return LiteralText("".join(characters))

    def _characters(self) -> GbnfNode:
        self._expect("[")
        negated = self._next() == "^"
        self._position += negated
        ranges = []
        while self._next() != "]":
            ranges.append(self._range())
        self._position += 1
        characters = CharacterSet.of(*ranges)
        return CharacterClass(characters.complement() if negated else characters)

    def _range(self) -> Range:
        first = last = self._character()
        if self._next() == "-" and self._text[self._position + 1 : self._position + 2] != "]":
            self._position += 1
            last = self._character()
        if first > last:
            raise self._error("a range from low to high")
        return ord(first), ord(last)

    def _character(self) -> str:
        if self.at_end() or self._next() in "\r\n":
            raise self._error("a character")
        character = self._next()
        self._position += 1
        return self._escaped() if character == "\\" else character

    def _escaped(self) -> str:
        kind = self._next()
        self._position += 1
        if kind in ESCAPES and kind:
            return ESCAPES[kind]
        digits = self._text[self._position : self._position + HEX_DIGITS.get(kind, 0)]
        if not digits or not re.fullmatch(f"[0-9A-Fa-f]{{{HEX_DIGITS[kind]}}}", digits):
            raise self._error("an escape")
        self._position += len(digits)
        if (number := int(digits, 16)) > MAX_CODE_POINT or number in SURROGATES:
            raise self._error("a character's number")
        return chr(number)

    def _counts(self) -> tuple[int, int | None] | None:
        if (sign := self._next()) in SIGNS:
            self._position += 1
            return SIGNS[sign]
        found = COUNTS.match(self._text, self._position)
        if found is None:
            return None
        self._position = found.end()
        minimum, comma, maximum = found.groups()
        low = _count(minimum)
        high = (_count(maximum) if maximum else None) if comma else low
        if high is not None and low > high:
            raise self._error("a count from low to high")
        return low, high

    def _name(self) -> str:
        found = NAME.match(self._text, self._position)
        if found is None:
            raise self._error("a name")
        self._position = found.end()
        return found[0]

    def _next(self) -> str:
        return self._text[self._position : self._position + 1]

    def _expect(self, sign: str) -> None:
        if not self._text.startswith(sign, self._position):
            raise self._error(f"'{sign}'")
        self._position += len(sign)

    def _skip_blank(self) -> None:
        self._skip(BLANK_LINES if self._nesting else BLANK)

    def _skip(self, blank: re.Pattern[str]) -> None:
        found = blank.match(self._text, self._position)
        if found is not None:
            self._position = found.end()

    def _error(self, expected: str) -> GbnfError:
        before = self._text[: self._position]
        line = before.count("\n") + 1
        column = self._position - (before.rfind("\n") + 1) + 1
        return GbnfError(f"line {line}, column {column}: expected {expected}")


def _count(digits: str) -> int:
    number = int(digits.lstrip("0")[: len(str(MAX_REPETITIONS)) + 1] or 0)
    if number > MAX_REPETITIONS:
        raise GbnfError(f"repetitions should be at most {MAX_REPETITIONS}")
    return number
