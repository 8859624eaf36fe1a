"""The parts of a parsed regular expression."""

from __future__ import annotations

from dataclasses import dataclass

from rapport.service.structured_output.ecma_regex.character_set import CharacterSet


@dataclass(frozen=True, slots=True)
class Character:
    """One character of a set."""

    set: CharacterSet


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts, one after another."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of several parts."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A part several times. Without `maximum` there is no limit."""

    part: Node
    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """The beginning of the text, or its end."""

    at_start: bool


@dataclass(frozen=True, slots=True)
class LookAhead:
    """What follows begins with a part or, if it is `negative`, does not."""

    part: Node
    negative: bool


Node = Character | Sequence | Alternatives | Repetition | Anchor | LookAhead
