"""Translates grammars in llama.cpp's GBNF to Lark, the syntax of the grammar engine.

GBNF has no tokens: a text matches if there is any way of reading it. The engine's Lark first
cuts a text into tokens, the longest first. So a grammar without recursion becomes a single
token, that is a regular expression. In a recursive grammar every character is a token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter

from rapport.service.structured_output.alphabet import UNWRITABLE
from rapport.service.structured_output.ecma_regex.character_set import (
    EVERY_CHARACTER,
    CharacterSet,
)
from rapport.service.structured_output.gbnf_parser import (
    Alternatives,
    CharacterClass,
    Concatenation,
    GbnfError,
    GbnfNode,
    LiteralText,
    Repetition,
    RuleReference,
    parse_gbnf,
)

# A class without characters.
NOTHING = r"/[^\s\S]/"
# The engine recurses as deep as rules are nested. Twice this depth still works.
MAX_TOTAL_DEPTH = 1000
# The engine's work grows with the square of the number of optional parts in a row.
MAX_PARTS = 10_000
# In a grammar that is one token, the engine copies a rule wherever it is named.
MAX_EXPANDED_PARTS = 100_000


def gbnf_to_lark(text: str, characters: CharacterSet = EVERY_CHARACTER) -> str:
    """A grammar of the same language in Lark, but for what has other than some characters.

    Raises:
        GbnfError: the grammar is wrong or too large, or wants a character that is not there.
    """
    rules = _reachable(parse_gbnf(text))
    if sum(map(_depth, rules.values())) > MAX_TOTAL_DEPTH:
        raise GbnfError(f"rules should be nested at most {MAX_TOTAL_DEPTH} deep together")
    by_characters = _is_recursive(rules)
    if sum(_size(rule, by_characters=by_characters) for rule in rules.values()) > MAX_PARTS:
        raise GbnfError(f"rules should have at most {MAX_PARTS} parts together")
    if not by_characters and _expanded_size(rules) > MAX_EXPANDED_PARTS:
        raise GbnfError(f"rules should have at most {MAX_EXPANDED_PARTS} parts written out")
    names = {name: f"r{number}" for number, name in enumerate(rules)}
    writer = LarkWriter(names, characters, by_characters)
    lines = [f"{writer.name(name)}: {writer.write(rule)}" for name, rule in rules.items()]
    return "\n".join([f"start: {writer.name('root')}", *lines])


def lark_string(text: str) -> str:
    """A text as a string literal in Lark."""
    return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class LarkWriter:
    """Writes nodes as Lark: as rules of single characters, or as one token."""

    names: dict[str, str]
    characters: CharacterSet
    """Those that can be written."""
    by_characters: bool

    def name(self, rule: str) -> str:
        """The name of a rule. Lark tells tokens from rules by upper case."""
        name = self.names[rule]
        return name if self.by_characters else name.upper()

    def write(self, node: GbnfNode) -> str:
        """The Lark expression of a node."""
        match node:
            case LiteralText(text):
                return self._literal(text)
            case CharacterClass(characters):
                return self._class(characters)
            case RuleReference(rule):
                return self.name(rule)
            case Concatenation(parts):
                return " ".join(f"({self.write(part)})" for part in parts) or '""'
            case Alternatives(options):
                return " | ".join(f"({self.write(option)})" for option in options)
            case Repetition(part, minimum, maximum):
                counts = f"{minimum},{'' if maximum is None else maximum}"
                return f"({self.write(part)}){{{counts}}}"

    def _literal(self, text: str) -> str:
        # With characters that cannot be written, an answer would come to a place with no way on.
        for character in text:
            if character not in self.characters:
                raise GbnfError(f"U+{ord(character):04X} is {UNWRITABLE}")
        pieces = list(text) if self.by_characters else [text]
        return " ".join(map(lark_string, pieces)) or '""'

    def _class(self, characters: CharacterSet) -> str:
        written = characters.intersection(self.characters)
        if characters.empty:
            return NOTHING
        if written.empty:
            first, _ = characters.ranges[0]
            raise GbnfError(f"U+{first:04X} is {UNWRITABLE}")
        return f"/{written.pattern}/"


def _children(node: GbnfNode) -> tuple[GbnfNode, ...]:
    match node:
        case Concatenation(parts):
            return parts
        case Alternatives(options):
            return options
        case Repetition(part, _, _):
            return (part,)
    return ()


def _depth(node: GbnfNode) -> int:
    return 1 + max(map(_depth, _children(node)), default=0)


def _size(node: GbnfNode, *, by_characters: bool) -> int:
    """The number of nodes. By characters, each character of a literal counts too."""
    inside = sum(_size(part, by_characters=by_characters) for part in _children(node))
    return 1 + inside + (len(node.text) if by_characters and isinstance(node, LiteralText) else 0)


def _expanded_size(rules: dict[str, GbnfNode]) -> int:
    """The size of `root` with rules in place of their names. No rule may be recursive."""
    needs = {name: set(_references(rule)) for name, rule in rules.items()}
    sizes: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        sizes[name] = _size_with(rules[name], sizes)
    return sizes["root"]


def _size_with(node: GbnfNode, sizes: dict[str, int]) -> int:
    if isinstance(node, RuleReference):
        return sizes[node.name]
    return 1 + sum(_size_with(part, sizes) for part in _children(node))


def _references(node: GbnfNode) -> Iterator[str]:
    """The names of the rules that a node refers to."""
    if isinstance(node, RuleReference):
        yield node.name
    for part in _children(node):
        yield from _references(part)


def _reachable(rules: dict[str, GbnfNode]) -> dict[str, GbnfNode]:
    """The rules that `root` needs."""
    found: dict[str, GbnfNode] = {}
    waiting = ["root"]
    while waiting:
        name = waiting.pop()
        if name not in rules:
            raise GbnfError(f"the rule '{name}' is missing")
        if name not in found:
            found[name] = rules[name]
            waiting += _references(rules[name])
    return found


def _is_recursive(rules: dict[str, GbnfNode]) -> bool:
    """Whether a rule refers back to itself.

    Removes the rules that only need removed ones, again and again. Recursive rules are left.
    """
    left = {name: set(_references(rule)) for name, rule in rules.items()}
    while ended := {name for name, needs in left.items() if not needs & left.keys()}:
        for name in ended:
            del left[name]
    return bool(left)
