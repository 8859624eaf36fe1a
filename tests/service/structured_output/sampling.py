"""Random output under a constraint, without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rapport.service.engine.sampling.arrays import draw_index
from rapport.service.engine.sampling.constraint import Grammar

Floats = NDArray[np.float32]

ENDS = (0, 2)
SIZE = 49152
# From here on what closes comes first, so that output ends.
PATIENCE = 40
MOST_TOKENS = 3000
CLOSING = (b"}", b"]", b'"', b":", b"@")


class EndlessError(AssertionError):
    """No end was found in time."""


def sample(
    grammar: Grammar,
    token_bytes: Sequence[bytes],
    seed: int,
    temperature: float = 1.0,
    *,
    most_tokens: int = MOST_TOKENS,
) -> str:
    """A text of the grammar, drawn from random logits."""
    random = np.random.default_rng(seed)
    closing = list(map(token_bytes.index, CLOSING))
    constraint, text = grammar.start(), b""
    for step in range(most_tokens):
        if constraint.finished:
            break
        logits = random.standard_normal(SIZE).astype(np.float32) * 3
        constraint.mask(logits)
        if step > PATIENCE:
            hasten(logits, closing)
        token = draw(logits, random, temperature)
        constraint.accept(token)
        text += token_bytes[token]
    if not constraint.finished:
        raise EndlessError(text[-200:])
    return text.decode()


def hasten(logits: Floats, closing: Sequence[int]) -> None:
    """Leaves the ends of turns, or else mostly what closes something."""
    for few in (ENDS, closing):
        if np.isfinite(logits[list(few)]).any():
            logits[list(few)] += 1000
            return


def draw(logits: Floats, random: np.random.Generator, temperature: float) -> int:
    if temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / np.float32(temperature))
    return draw_index(weights, random.random())


def accepts(grammar: Grammar, tokens: Sequence[int]) -> bool:
    """Whether tokens are a whole text of the grammar."""
    constraint = grammar.start()
    for token in tokens:
        if token not in constraint.allowed():
            return False
        constraint.accept(token)
    return constraint.complete
