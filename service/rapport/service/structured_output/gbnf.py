"""Grammars in llama.cpp's GBNF, to Lark as the grammar engine has it.

GBNF knows no tokens: every way of reading a text counts. The engine's Lark cuts text
into the longest tokens first. So a grammar without recursion becomes one token, a
regular expression, and in any other every character is a token of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter

from rapport.service.structured_output.gbnf_parser import (
    Alternatives,
    Characters,
    GbnfError,
    Literal,
    Node,
    Repeated,
    RuleName,
    Series,
    parse,
)

# The engine goes as deep as rules do, on a stack; twice as much is fine.
MOST_NESTED = 1000
# Its work grows with the square of what may be left out in a row.
MOST_PARTS = 10_000
# It takes a rule's parts anew wherever the rule is named, unless it reads by characters.
MOST_WRITTEN_OUT = 100_000


def gbnf_to_lark(text: str) -> str:
    """The same language in Lark.

    Raises:
        GbnfError: the grammar is wrong or too large.
    """
    rules = reachable(parse(text))
    if sum(map(depth, rules.values())) > MOST_NESTED:
        raise GbnfError(f"rules should be nested at most {MOST_NESTED} deep together")
    by_characters = recursive(rules)
    if sum(size(rule, by_characters=by_characters) for rule in rules.values()) > MOST_PARTS:
        raise GbnfError(f"rules should have at most {MOST_PARTS} parts together")
    if not by_characters and written_out(rules) > MOST_WRITTEN_OUT:
        raise GbnfError(f"rules should have at most {MOST_WRITTEN_OUT} parts written out")
    writer = Writer({name: f"r{number}" for number, name in enumerate(rules)}, by_characters)
    lines = [f"{writer.name(name)}: {writer.write(rule)}" for name, rule in rules.items()]
    return "\n".join([f"start: {writer.name('root')}", *lines])


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes nodes as Lark: by characters in rules, whole in tokens."""

    names: dict[str, str]
    by_characters: bool

    def name(self, rule: str) -> str:
        """Lark tells rules from tokens by their case."""
        name = self.names[rule]
        return name if self.by_characters else name.upper()

    def write(self, node: Node) -> str:
        match node:
            case Literal(text):
                pieces = list(text) if self.by_characters else [text]
                return " ".join(map(quoted, pieces)) or '""'
            case Characters(pattern):
                return f"/{pattern}/"
            case RuleName(rule):
                return self.name(rule)
            case Series(parts):
                return " ".join(f"({self.write(part)})" for part in parts) or '""'
            case Alternatives(options):
                return " | ".join(f"({self.write(option)})" for option in options)
            case Repeated(part, least, most):
                return f"({self.write(part)}){times(least, most)}"


def times(least: int, most: int | None) -> str:
    return f"{{{least},{'' if most is None else most}}}"


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def children(node: Node) -> tuple[Node, ...]:
    match node:
        case Series(parts):
            return parts
        case Alternatives(options):
            return options
        case Repeated(part, _, _):
            return (part,)
    return ()


def depth(node: Node) -> int:
    return 1 + max(map(depth, children(node)), default=0)


def size(node: Node, *, by_characters: bool) -> int:
    inside = sum(size(part, by_characters=by_characters) for part in children(node))
    return 1 + inside + (len(node.text) if by_characters and isinstance(node, Literal) else 0)


def written_out(rules: dict[str, Node]) -> int:
    """How many parts `root` has with rules in place of their names; none is recursive."""
    needs = {name: set(mentioned(rule)) for name, rule in rules.items()}
    sizes: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        sizes[name] = size_with(rules[name], sizes)
    return sizes["root"]


def size_with(node: Node, sizes: dict[str, int]) -> int:
    if isinstance(node, RuleName):
        return sizes[node.name]
    return 1 + sum(size_with(part, sizes) for part in children(node))


def mentioned(node: Node) -> Iterator[str]:
    if isinstance(node, RuleName):
        yield node.name
    for part in children(node):
        yield from mentioned(part)


def reachable(rules: dict[str, Node]) -> dict[str, Node]:
    """The rules that `root` needs."""
    found: dict[str, Node] = {}
    waiting = ["root"]
    while waiting:
        name = waiting.pop()
        if name not in rules:
            raise GbnfError(f"the rule '{name}' is missing")
        if name not in found:
            found[name] = rules[name]
            waiting += mentioned(rules[name])
    return found


def recursive(rules: dict[str, Node]) -> bool:
    """Whether a rule leads back to itself: what is left of all that lead to an end."""
    left = {name: set(mentioned(rule)) for name, rule in rules.items()}
    while ended := {name for name, needs in left.items() if not needs & left.keys()}:
        for name in ended:
            del left[name]
    return bool(left)
