"""A token for each sequence of a step."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Rows
from typing import NamedTuple

from service.engine.constraint import REFUSED, ConstraintFailed
from service.engine.errors import EngineError, failure_of
from service.engine.logprobs import TokenLogprob, observe
from service.engine.runner import Floats
from service.engine.sampler import draw_all
from service.engine.sequence import Sequence
from service.engine.stats import Tally

log = logging.getLogger(__name__)


class Drawn(NamedTuple):
    """A token, and its log probability where it was asked for."""

    token: int
    logprob: TokenLogprob | None


def draw(logits: Floats, sequences: Rows[Sequence], masks: Tally) -> list[Drawn | EngineError]:
    """Draws from `logits` [rows, vocabulary], a row for each sequence, overwriting them.

    A sequence whose grammar or sampler fails gets the reason in place of a token, which is no
    matter of the others'. `masks` gets the time that each grammar took, in seconds.
    """
    rows = list(zip(logits, sequences, strict=True))
    seen = [observed(row, sequence) for row, sequence in rows]
    failures = [constrain(row, sequence, masks) for row, sequence in rows]
    tokens = draw_all(logits, [sequence.sampler for sequence in sequences])
    return [
        failure or outcome(token, raw, count)
        for failure, token, (raw, count) in zip(failures, tokens, seen, strict=True)
    ]


def outcome(token: int | Exception, raw: Floats | None, count: int) -> Drawn | EngineError:
    if isinstance(token, Exception):
        return failure_of(token)
    return Drawn(token, None if raw is None else observe(raw, token, count))


def constrain(row: Floats, sequence: Sequence, masks: Tally) -> EngineError | None:
    """Leaves the tokens that the sequence's grammar allows, or tells why it cannot."""
    if sequence.constraint is None:
        return None
    began = time.perf_counter()
    try:
        sequence.constraint.mask(row)
        forbid(row, sequence.unwanted)
    except ConstraintFailed as failure:
        return failure
    except Exception as error:
        log.exception("a grammar could not be followed")
        return failure_of(error)
    finally:
        masks.since(began)
    return None


def forbid(row: Floats, tokens: Rows[int]) -> None:
    """Takes tokens out, unless nothing else is left."""
    if tokens:
        kept = row[tokens]
        row[tokens] = REFUSED
        if row.max() == REFUSED:
            row[tokens] = kept


def observed(row: Floats, sequence: Sequence) -> tuple[Floats | None, int]:
    """The row as the model gave it, kept where its log probabilities are wanted."""
    count = sequence.job.request.logprobs
    return (None, 0) if count is None else (row.copy(), count)
