"""The syntax of GBNF, as llama.cpp's `grammars/README.md` describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_NESTED = 50
MOST_REPEATED = 100_000
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
HIGHEST = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)
NAME = re.compile(r"[A-Za-z0-9_-]+")
BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
BLANK_LINES = re.compile(r"(?:\s|#[^\r\n]*)*")
COUNTS = re.compile(r"\{\s*(\d*)\s*(?:(,)\s*(\d*)\s*)?\}")
SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class GbnfError(Exception):
    """The grammar is no GBNF."""


@dataclass(frozen=True, slots=True)
class Literal:
    text: str


@dataclass(frozen=True, slots=True)
class Characters:
    """One character of a class, written as a regular expression."""

    pattern: str


@dataclass(frozen=True, slots=True)
class RuleName:
    name: str


@dataclass(frozen=True, slots=True)
class Series:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    part: Node
    least: int
    most: int | None


Node = Literal | Characters | RuleName | Series | Alternatives | Repeated


def parse(text: str) -> dict[str, Node]:
    """The rules of a grammar, by name.

    Raises:
        GbnfError: it is no GBNF.
    """
    parser = Parser(text)
    rules: dict[str, Node] = {}
    while not parser.at_end():
        name, rule = parser.rule()
        rules[name] = rule
    return rules


class Parser:
    """Reads a grammar from front to back. Inside parentheses lines may break anywhere."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._nested = 0
        self._skip(BLANK_LINES)

    def at_end(self) -> bool:
        return self._place >= len(self._text)

    def rule(self) -> tuple[str, Node]:
        name = self._name()
        self._skip_blank()
        self._expect("::=")
        self._skip(BLANK_LINES)
        rule = self._alternatives()
        if not self.at_end() and self._next() not in "\r\n":
            raise self._error("a new line")
        self._skip(BLANK_LINES)
        return name, rule

    def _alternatives(self) -> Node:
        options = [self._series()]
        while self._next() == "|":
            self._place += 1
            self._skip(BLANK_LINES)
            options.append(self._series())
        return options[0] if len(options) == 1 else Alternatives(tuple(options))

    def _series(self) -> Node:
        parts: list[Node] = []
        while (part := self._part()) is not None:
            self._skip_blank()
            if (counts := self._counts()) is not None:
                part = Repeated(part, *counts)
                self._skip_blank()
            parts.append(part)
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _part(self) -> Node | None:
        match self._next():
            case '"':
                return self._literal()
            case "[":
                return self._characters()
            case "(":
                return self._group()
            case ".":
                self._place += 1
                return Characters(r"[\s\S]")
        return RuleName(self._name()) if NAME.match(self._text, self._place) else None

    def _group(self) -> Node:
        self._expect("(")
        self._nested += 1
        if self._nested > MOST_NESTED:
            raise GbnfError(f"parentheses should be nested at most {MOST_NESTED} deep")
        self._skip_blank()
        inside = self._alternatives()
        self._expect(")")
        self._nested -= 1
        return inside

    def _literal(self) -> Node:
        self._expect('"')
        characters = []
        while self._next() != '"':
            characters.append(self._character())
        self._place += 1
        return Literal("".join(characters))

    def _characters(self) -> Node:
        self._expect("[")
        sign = "^" if self._next() == "^" else ""
        self._place += len(sign)
        ranges = []
        while self._next() != "]":
            ranges.append(self._range())
        self._place += 1
        if not ranges:
            return Characters(r"[\s\S]" if sign else r"[^\s\S]")
        return Characters(f"[{sign}{''.join(ranges)}]")

    def _range(self) -> str:
        first = last = self._character()
        if self._next() == "-" and self._text[self._place + 1 : self._place + 2] != "]":
            self._place += 1
            last = self._character()
        if first > last:
            raise self._error("a range from low to high")
        return f"{code(first)}-{code(last)}"

    def _character(self) -> str:
        if self.at_end() or self._next() in "\r\n":
            raise self._error("a character")
        character = self._next()
        self._place += 1
        return self._escaped() if character == "\\" else character

    def _escaped(self) -> str:
        kind = self._next()
        self._place += 1
        if kind in ESCAPES and kind:
            return ESCAPES[kind]
        digits = self._text[self._place : self._place + HEX_DIGITS.get(kind, 0)]
        if not digits or not re.fullmatch(f"[0-9A-Fa-f]{{{HEX_DIGITS[kind]}}}", digits):
            raise self._error("an escape")
        self._place += len(digits)
        if (number := int(digits, 16)) > HIGHEST or number in SURROGATES:
            raise self._error("a character's number")
        return chr(number)

    def _counts(self) -> tuple[int, int | None] | None:
        if (sign := self._next()) in SIGNS:
            self._place += 1
            return SIGNS[sign]
        found = COUNTS.match(self._text, self._place)
        if found is None:
            return None
        self._place = found.end()
        least, comma, most = found.groups()
        low = counted(least)
        high = (counted(most) if most else None) if comma else low
        if high is not None and low > high:
            raise self._error("a count from low to high")
        return low, high

    def _name(self) -> str:
        found = NAME.match(self._text, self._place)
        if found is None:
            raise self._error("a name")
        self._place = found.end()
        return found[0]

    def _next(self) -> str:
        return self._text[self._place : self._place + 1]

    def _expect(self, sign: str) -> None:
        if not self._text.startswith(sign, self._place):
            raise self._error(f"'{sign}'")
        self._place += len(sign)

    def _skip_blank(self) -> None:
        self._skip(BLANK_LINES if self._nested else BLANK)

    def _skip(self, blank: re.Pattern[str]) -> None:
        found = blank.match(self._text, self._place)
        if found is not None:
            self._place = found.end()

    def _error(self, expected: str) -> GbnfError:
        before = self._text[: self._place]
        line = before.count("\n") + 1
        column = self._place - (before.rfind("\n") + 1) + 1
        return GbnfError(f"line {line}, column {column}: expected {expected}")


def counted(digits: str) -> int:
    number = int(digits.lstrip("0")[: len(str(MOST_REPEATED)) + 1] or 0)
    if number > MOST_REPEATED:
        raise GbnfError(f"repetitions should be at most {MOST_REPEATED}")
    return number


def code(character: str) -> str:
    return rf"\x{{{ord(character):x}}}"
