"""What tests of grammars share."""

from __future__ import annotations

from rapport.service.engine.sampling.constraint import Constraint

SIZE = 49152
ENDS = (0, 2)
LETTERS = "start: /[ab]+/"
EXACT = 'start: "yes" | "no"'


def follow(constraint: Constraint, tokens: list[int]) -> None:
    for token in tokens:
        constraint.prepare()
        constraint.accept(token)
