"""A token for each sequence of a step."""

from __future__ import annotations

import time
from collections.abc import Sequence as Rows
from typing import NamedTuple

from service.engine.constraint import ConstraintFailed
from service.engine.logprobs import TokenLogprob, observe
from service.engine.runner import Floats
from service.engine.sampler import draw_all
from service.engine.sequence import Sequence
from service.engine.stats import Tally


class Drawn(NamedTuple):
    """A token, and its log probability where it was asked for."""

    token: int
    logprob: TokenLogprob | None


def draw(logits: Floats, sequences: Rows[Sequence], masks: Tally) -> list[Drawn | ConstraintFailed]:
    """Draws from `logits` [rows, vocabulary], a row for each sequence, overwriting them.

    A sequence whose grammar cannot be followed gets the reason in place of a token. `masks`
    gets the time that each grammar took, in seconds.
    """
    seen = [observed(row, sequence) for row, sequence in zip(logits, sequences, strict=True)]
    rows = zip(logits, sequences, strict=True)
    failures = [constrain(row, sequence, masks) for row, sequence in rows]
    tokens = draw_all(logits, [sequence.sampler for sequence in sequences])
    return [
        failure or Drawn(token, None if raw is None else observe(raw, token, count))
        for failure, token, (raw, count) in zip(failures, tokens, seen, strict=True)
    ]


def constrain(row: Floats, sequence: Sequence, masks: Tally) -> ConstraintFailed | None:
    """Leaves the tokens that the sequence's grammar allows, or tells why it cannot."""
    if sequence.constraint is None:
        return None
    began = time.perf_counter()
    try:
        sequence.constraint.mask(row)
    except ConstraintFailed as failure:
        return failure
    finally:
        masks.since(began)
    return None


def observed(row: Floats, sequence: Sequence) -> tuple[Floats | None, int]:
    """The row as the model gave it, kept where its log probabilities are wanted."""
    count = sequence.job.request.logprobs
    return (None, 0) if count is None else (row.copy(), count)
