"""A token for each sequence of a step."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rapport.service.engine.errors import ConstraintFailedError, EngineError, failure_of
from rapport.service.engine.sampling.arrays import Bytes, Floats
from rapport.service.engine.sampling.candidates import TooFewCandidatesError
from rapport.service.engine.sampling.constraint import REFUSED
from rapport.service.engine.sampling.logits import DeviceLogits, Logits, whole_rows
from rapport.service.engine.sampling.logprobs import TokenLogprob, observe
from rapport.service.engine.sampling.readiness import wait_for_masks
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings
from rapport.service.engine.sampling.sampler import draw_all
from rapport.service.engine.sequences import SequenceState
from rapport.service.engine.stats import Histogram

log = logging.getLogger(__name__)


class DrawnToken(NamedTuple):
    """A token, and its log probability where it was asked for."""

    token: int
    logprob: TokenLogprob | None


class Seen(NamedTuple):
    """A row as the model gave it, and how many alternatives to its token are wanted."""

    row: Floats | None
    alternatives: int


Outcome = DrawnToken | EngineError


def draw(
    logits: Logits, sequences: Sequence[SequenceState], masks: Histogram
) -> list[Outcome | None]:
    """Draws from `logits` [rows, vocabulary], a row for each sequence, overwriting them.

    Of a device's logits, a row comes to the host where its candidates are not enough.

    A sequence whose grammar or sampler fails gets the error in place of a token, and one whose
    mask is not ready gets None; the others get their tokens all the same. `masks` gets the time
    that each grammar took, in seconds.
    """
    wait_for_masks(sequences)
    drawn: list[Outcome | None] = [None] * len(sequences)
    try:
        if isinstance(logits, DeviceLogits):
            drawn = _draw_candidates(logits, sequences, masks)
        places = [at for at, each in enumerate(sequences) if each.ready and drawn[at] is None]
        rows = whole_rows(logits, places)
    except Exception as error:
        log.exception("candidates could not be found")
        return [failure_of(error)] * len(sequences)
    ready = [sequences[place] for place in places]
    for place, token in zip(places, _draw_ready(rows, ready, masks), strict=True):
        drawn[place] = token
    for sequence in sequences:
        if sequence.constraint is not None and not sequence.ready:
            sequence.constraint.skipped = True
    return drawn


def _draw_candidates(
    logits: DeviceLogits, sequences: Sequence[SequenceState], masks: Histogram
) -> list[Outcome | None]:
    """None where the whole row is needed, or no token is wanted."""
    known = zip(logits.known_settings, sequences, strict=True)
    # A mask may have become ready in the meantime.
    settings = [_settings_of(sequence) if one is None else one for one, sequence in known]
    rows = zip(logits.candidates(settings), sequences, strict=True)
    drawn = [None if row is None else _draw_among(row, sequence) for row, sequence in rows]
    for outcome, sequence in zip(drawn, sequences, strict=True):
        if outcome is not None and sequence.constraint is not None:
            masks.add(sequence.constraint.mask_s)
    return drawn


def settings_of(sequences: Sequence[SequenceState]) -> list[RowSettings | None]:
    """What the next token of each depends on; None where its mask is not ready, or all of a row."""
    return [*map(_settings_of, sequences)]


def _settings_of(sequence: SequenceState) -> RowSettings | None:
    """Those of its next token; None if it needs the whole row, or wants no token."""
    if not sequence.ready:
        return None
    try:
        settings = sequence.sampler.settings(_allowed(sequence))
    except EngineError:
        return None  # the mask of the whole row fails in the same way
    alternatives = sequence.group.request.logprobs
    shown = alternatives is None or settings is None or settings.shows(alternatives)
    return settings if shown else None


def _allowed(sequence: SequenceState) -> Bytes | None:
    """A bit for each token that its grammar allows; None if it has no grammar."""
    if sequence.constraint is None:
        return None
    return without(sequence.constraint.allowed_bits(), sequence.suppressed_tokens)


def without(allowed: Bytes, tokens: Sequence[int]) -> Bytes:
    """The bits of allowed tokens without those of some, unless nothing else is left."""
    if not tokens:
        return allowed
    left = allowed.copy()
    for token in tokens:
        left[token // 8] &= ~np.uint8(1 << token % 8)
    return left if left.any() else allowed


def _draw_among(row: RowCandidates, sequence: SequenceState) -> Outcome | None:
    alternatives = sequence.group.request.logprobs
    try:
        token = sequence.sampler.draw_among(row)
        logprob = None if alternatives is None else row.observe(token, alternatives)
    except TooFewCandidatesError:
        return None
    except Exception as error:
        log.exception("a token could not be drawn")
        return failure_of(error)
    return DrawnToken(token, logprob)


def _draw_ready(
    logits: Floats, sequences: Sequence[SequenceState], masks: Histogram
) -> list[Outcome]:
    rows = zip(logits, sequences, strict=True)
    seen = [_prepare(row, sequence, masks) for row, sequence in rows]
    tokens = draw_all(logits, [sequence.sampler for sequence in sequences])
    return [_outcome(*each) for each in zip(seen, tokens, strict=True)]


def _prepare(row: Floats, sequence: SequenceState, masks: Histogram) -> Seen | EngineError:
    """Leaves the tokens that the sequence's grammar allows. Returns what was there before."""
    try:
        seen = observed(row, sequence)
        _constrain(row, sequence, masks)
    except ConstraintFailedError as failure:
        return failure
    except Exception as error:
        log.exception("a token could not be prepared")
        return failure_of(error)
    return seen


def _outcome(seen: Seen | EngineError, token: int | Exception) -> Outcome:
    if isinstance(seen, EngineError):
        return seen
    if isinstance(token, Exception):
        return failure_of(token)
    try:
        logprob = None if seen.row is None else observe(seen.row, token, seen.alternatives)
    except Exception as error:
        log.exception("a log probability could not be computed")
        return failure_of(error)
    return DrawnToken(token, logprob)


def _constrain(row: Floats, sequence: SequenceState, masks: Histogram) -> None:
    if sequence.constraint is None:
        return
    began = time.perf_counter()
    try:
        sequence.constraint.mask(row)
        _forbid(row, sequence.suppressed_tokens)
    finally:
        masks.add(time.perf_counter() - began + sequence.constraint.mask_s)


def _forbid(row: Floats, tokens: Sequence[int]) -> None:
    """Takes tokens out, unless nothing else is left."""
    if tokens:
        kept = row[tokens]
        row[tokens] = REFUSED
        if row.max() == REFUSED:
            row[tokens] = kept


def observed(row: Floats, sequence: SequenceState) -> Seen:
    count = sequence.group.request.logprobs
    return Seen(None, 0) if count is None else Seen(row.copy(), count)
