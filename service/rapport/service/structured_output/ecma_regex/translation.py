"""Translates regular expressions of ECMA-262 to the syntax of the grammar engine.

The engine takes expressions of Rust's syntax, and errs where a class has every control character:
it then lets each escape of JSON through, also those of characters that the class excludes. So all
that is translated is characters by their numbers, sets as ranges within an alphabet, groups,
alternatives and repetitions.
"""

from __future__ import annotations

from functools import reduce

from rapport.service.structured_output.ecma_regex.character_set import (
    EVERY_CHARACTER,
    CharacterSet,
    numbered,
)
from rapport.service.structured_output.ecma_regex.errors import (
    UnmatchedPatternError,
    UnsupportedPatternError,
)
from rapport.service.structured_output.ecma_regex.parser import parse_pattern
from rapport.service.structured_output.ecma_regex.syntax_tree import (
    Alternatives,
    Anchor,
    Character,
    Node,
    Repetition,
    Sequence,
)

ANY_TEXT = "(?s:.*)"
MAX_CHARS = 256 << 10

Branches = dict[tuple[bool, bool], str]
"""Expressions by whether they begin at the start of the text, and whether they end at its end."""
EMPTY: Branches = {(False, False): ""}


def translate_pattern(pattern: str, alphabet: CharacterSet) -> str:
    """An expression for all texts of an alphabet in which a pattern of ECMA-262 is found.

    Raises:
        PatternSyntaxError: the pattern is none of ECMA-262.
        UnsupportedPatternError: it has a part that cannot be enforced.
        UnmatchedPatternError: it is found in no text of the alphabet.
    """
    branches = _Translation(alphabet).translate(parse_pattern(pattern))
    if not branches:
        raise UnmatchedPatternError("the model can write no text that matches")
    texts = [
        f"{'' if starts else ANY_TEXT}(?:{expression}){'' if ends else ANY_TEXT}"
        for (starts, ends), expression in branches.items()
    ]
    return f"^(?:{'|'.join(texts)})$"


class _Translation:
    """Translates the parts of one pattern. Without a branch nothing matches a part."""

    def __init__(self, alphabet: CharacterSet) -> None:
        self._alphabet = alphabet
        self._chars = 0

    def translate(self, node: Node) -> Branches:
        branches = self._translate(node)
        self._chars += sum(map(len, branches.values()))
        if self._chars > MAX_CHARS:
            raise UnsupportedPatternError("it is too intricate")
        return branches

    def _translate(self, node: Node) -> Branches:
        match node:
            case Character(characters):
                text = _class(characters, self._alphabet)
                return {(False, False): text} if text else {}
            case Anchor(at_start):
                return {(at_start, not at_start): ""}
            case Sequence(parts):
                return reduce(_joined, map(self.translate, parts), EMPTY)
            case Alternatives(options):
                return _united(*map(self.translate, options))
            case Repetition(part, minimum, maximum):
                return _repeated(self.translate(part), minimum, maximum)
        raise UnsupportedPatternError("it has look-ahead")


def _joined(first: Branches, second: Branches) -> Branches:
    joined: Branches = {}
    for (starts, ends), one in first.items():
        for (also_starts, also_ends), other in second.items():
            if (also_starts and one) or (ends and other):
                raise UnsupportedPatternError("'^' or '$' is not at an end of the text")
            key = starts or also_starts, ends or also_ends
            joined = _united(joined, {key: one + other})
    return joined


def _united(*several: Branches) -> Branches:
    """The branches of alternatives."""
    texts: dict[tuple[bool, bool], dict[str, None]] = {}
    for branches in several:
        for key, text in branches.items():
            texts.setdefault(key, {})[text] = None
    return {key: _either(list(options)) for key, options in texts.items()}


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"


def _repeated(branches: Branches, minimum: int, maximum: int | None) -> Branches:
    if not branches:
        return {} if minimum else EMPTY
    if maximum == 0:
        return EMPTY
    if branches.keys() <= EMPTY.keys():
        counts = f"{{{minimum},{'' if maximum is None else maximum}}}"
        return {key: f"(?:{text}){counts}" if text else "" for key, text in branches.items()}
    if maximum != 1:
        raise UnsupportedPatternError("'^' or '$' is repeated")
    return branches if minimum else _united(branches, EMPTY)


def _class(characters: CharacterSet, alphabet: CharacterSet) -> str:
    """A class of the engine's syntax; empty if no character is in it."""
    if characters.properties:
        return f"[{characters.pattern}&&{alphabet.pattern}]"
    if characters == EVERY_CHARACTER:
        return "(?s:.)"
    written = characters.intersection(alphabet)
    if written.empty:
        return ""
    first, last = written.ranges[0][0], written.ranges[-1][1]
    return numbered(first) if first == last else written.pattern
