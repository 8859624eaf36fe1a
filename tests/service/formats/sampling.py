"""Random output under a constraint, without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.engine.constraint import Constraint, Grammar
from service.engine.sampler import pick

ENDS = (0, 2)
SIZE = 49152
# From here on what closes comes first, so that output ends.
PATIENCE = 40
MOST_TOKENS = 3000
CLOSING = (b"}", b"]", b'"')


def sample(
    grammar: Grammar, token_bytes: Sequence[bytes], seed: int, temperature: float = 1.0
) -> str:
    """A text of the grammar, drawn from random logits."""
    random = np.random.default_rng(seed)
    closers = [*ENDS, *map(token_bytes.index, CLOSING)]
    constraint, text = grammar.start(), b""
    for step in range(MOST_TOKENS):
        if constraint.finished:
            break
        token = draw(constraint, random, temperature, closers if step > PATIENCE else ())
        constraint.accept(token)
        text += token_bytes[token]
    assert constraint.finished, f"no end in sight: {text[-200:]!r}"
    return text.decode()


def draw(
    constraint: Constraint, random: np.random.Generator, temperature: float, first: Sequence[int]
) -> int:
    logits = random.standard_normal(SIZE).astype(np.float32) * 3
    constraint.mask(logits)
    # Inside of a string nearly all tokens may come, and a quote is what closes it.
    ordered = reversed(first) if np.isfinite(logits).sum() > SIZE // 2 else first
    token = next((token for token in ordered if logits[token] > -np.inf), None)
    if token is not None:
        return token
    if temperature == 0:
        return int(logits.argmax())
    return pick(np.exp((logits - logits.max()) / np.float32(temperature)), random)


def accepts(grammar: Grammar, tokens: Sequence[int]) -> bool:
    """Whether tokens are a whole text of the grammar."""
    constraint = grammar.start()
    for token in tokens:
        if token not in constraint.allowed():
            return False
        constraint.accept(token)
    return constraint.complete
