"""Parses regular expressions of ECMA-262, as JSON Schema wants them.

Expressions mean what they mean with the flag `u`. As without that flag, characters that are
neither letters nor digits may be escaped, and `]`, `{` and `}` may stand for themselves. Neither
can be taken for anything else, and many schemas have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rapport.service.structured_output.ecma_regex.character_set import DOT, CharacterSet
from rapport.service.structured_output.ecma_regex.class_parser import parse_class, parse_escape
from rapport.service.structured_output.ecma_regex.errors import (
    PatternSyntaxError,
    UnsupportedPatternError,
)
from rapport.service.structured_output.ecma_regex.scanner import Scanner
from rapport.service.structured_output.ecma_regex.syntax_tree import (
    Alternatives,
    Anchor,
    Character,
    LookAhead,
    Node,
    Repetition,
    Sequence,
)

MAX_DEPTH = 100
COUNTS = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
# Such a count is out of reach, and Python does not convert numbers of thousands of digits.
MAX_COUNT_DIGITS = 9
GROUP_NAME = re.compile(r"<((?:[^\W\d]|\$)[\w$]*)>")
LOOK_AROUNDS = {"?=": False, "?!": True}


def parse_pattern(pattern: str) -> Node:
    """The parts of a regular expression.

    Raises:
        PatternSyntaxError: it is none of ECMA-262.
        UnsupportedPatternError: it has a part that a grammar cannot have.
    """
    scanner = Scanner(pattern)
    node = _alternatives(scanner, set(), depth=0)
    if not scanner.at_end:
        raise PatternSyntaxError("a ')' has no '('")
    return node


def _alternatives(scanner: Scanner, names: set[str], depth: int) -> Node:
    """Also adds the names of its groups to `names`, those of the groups before it.

    A name may stand in several alternatives, but only once in each.
    """
    if depth > MAX_DEPTH:
        raise UnsupportedPatternError(f"groups should be nested at most {MAX_DEPTH} deep")
    before = frozenset(names)
    options = [_sequence(scanner, names, depth)]
    while scanner.take("|"):
        own = set(before)
        options.append(_sequence(scanner, own, depth))
        names |= own
    return options[0] if len(options) == 1 else Alternatives(tuple(options))


def _sequence(scanner: Scanner, names: set[str], depth: int) -> Node:
    parts = tuple(_terms(scanner, names, depth))
    return parts[0] if len(parts) == 1 else Sequence(parts)


def _terms(scanner: Scanner, names: set[str], depth: int) -> Iterator[Node]:
    while not scanner.at_end and scanner.next not in ("|", ")"):
        yield _repeated(scanner, _term(scanner, names, depth))


def _term(scanner: Scanner, names: set[str], depth: int) -> Node:
    if scanner.take("("):
        return _group(scanner, names, depth + 1)
    if scanner.take("["):
        return Character(parse_class(scanner))
    if scanner.take("\\"):
        return Character(parse_escape(scanner))
    if scanner.next in ("*", "+", "?") or scanner.looking_at(COUNTS):
        raise PatternSyntaxError(f"there is nothing that {scanner.next!r} could repeat")
    match character := scanner.pop():
        case "^" | "$":
            return Anchor(at_start=character == "^")
        case ".":
            return Character(DOT)
    return Character(CharacterSet.of_text(character))


def _group(scanner: Scanner, names: set[str], depth: int) -> Node:
    look_around = next((each for each in LOOK_AROUNDS if scanner.take(each)), None)
    if look_around is None and scanner.take("?"):
        if scanner.take("<=") or scanner.take("<!"):
            raise UnsupportedPatternError("it has look-behind")
        if not scanner.take(":"):
            _name_group(scanner, names)
    node = _alternatives(scanner, names, depth)
    if not scanner.take(")"):
        raise PatternSyntaxError("a '(' has no ')'")
    return node if look_around is None else LookAhead(node, LOOK_AROUNDS[look_around])


def _name_group(scanner: Scanner, names: set[str]) -> None:
    found = scanner.match(GROUP_NAME)
    if found is None:
        raise PatternSyntaxError(f"'(?{scanner.next}' is no group of ECMA-262")
    if found[1] in names:
        raise PatternSyntaxError(f"two groups are named '{found[1]}'")
    names.add(found[1])


def _repeated(scanner: Scanner, node: Node) -> Node:
    counts = _counts(scanner)
    if counts is None:
        return node
    if isinstance(node, Anchor | LookAhead):
        raise PatternSyntaxError("an assertion cannot be repeated")
    # It is the same text whether as much or as little as possible is taken.
    scanner.take("?")
    return Repetition(node, *counts)


def _counts(scanner: Scanner) -> tuple[int, int | None] | None:
    for sign, counts in {"*": (0, None), "+": (1, None), "?": (0, 1)}.items():
        if scanner.take(sign):
            return counts
    found = scanner.match(COUNTS)
    if found is None:
        return None
    minimum = _count(found[1])
    if minimum is None:
        raise UnsupportedPatternError("a number of repetitions is out of reach")
    maximum = _count(found[3] or "") if found[2] else minimum
    if maximum is not None and maximum < minimum:
        raise PatternSyntaxError(f"the numbers of {found[0]} are out of order")
    return minimum, maximum


def _count(digits: str) -> int | None:
    """A number of repetitions; None if there is no limit within reach."""
    digits = digits.lstrip("0") or digits[:1]
    return int(digits) if 0 < len(digits) <= MAX_COUNT_DIGITS else None
