"""How long a step waits for grammars: as long as it takes nothing from those that need not wait."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rapport.service.engine.sequences import SequenceState

# Usually the work of all grammars is done before the model's is. Where it is not, the next step
# would cost the choice more than this wait costs the others.
MAX_WAIT_S = 0.01
# Where no choice could have a token.
MAX_LONE_WAIT_S = 0.05
# Where all choices are of one request, whose grammar is not slow: then the processors are busy. To
# skip a choice would run the others without it, and what they compute then differs in rounding.
MAX_REQUEST_WAIT_S = 0.25


def wait_for_masks(sequences: Sequence[SequenceState]) -> None:
    """Waits until the masks of sequences are ready, but not long for those that are slow."""
    pending = [sequence for sequence in sequences if not sequence.ready]
    if not pending:
        return
    alone = len(pending) == len(sequences)
    until = wait_until(sequences, MAX_LONE_WAIT_S if alone else MAX_WAIT_S)
    for sequence in pending:
        constraint = sequence.constraint
        if constraint is not None and (alone or not constraint.late):
            constraint.wait_ready(max(until - time.monotonic(), 0))


def wait_until(sequences: Sequence[SequenceState], max_wait_s: float = MAX_WAIT_S) -> float:
    """Until when, by the monotonic clock, a step may wait for these sequences."""
    is_one_request = all(sequence.group is sequences[0].group for sequence in sequences)
    if is_one_request and not any(map(_is_late, sequences)):
        max_wait_s = MAX_REQUEST_WAIT_S
    return time.monotonic() + max_wait_s


def _is_late(sequence: SequenceState) -> bool:
    return sequence.constraint is not None and sequence.constraint.late


def is_accepted(sequence: SequenceState, until: float) -> bool:
    """Whether a grammar has accepted a sequence's last token, by a time of the monotonic clock.

    It does not wait for one that is slow.
    """
    constraint = sequence.constraint
    if constraint is None:
        return True
    wait_s = 0 if constraint.late else max(until - time.monotonic(), 0)
    if not constraint.wait_accepted(wait_s):
        constraint.skipped = True
        return False
    return True
