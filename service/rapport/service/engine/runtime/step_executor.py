"""Runs the model on sequences, and measures how long that takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from rapport.service.engine.errors import EngineError, failure_of
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.sampling.draw import DrawnToken, draw, settings_of
from rapport.service.engine.sampling.logits import Logits
from rapport.service.engine.sampling.readiness import wait_for_masks
from rapport.service.engine.scheduling.latency_model import (
    CROWDED_SHARE,
    FAIR_SHARE,
    SLICE_GRAIN_TOKENS,
    LatencyModel,
)
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.sequences import SequenceState
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS
from rapport.service.engine.stats import EngineStats


class StepExecutor:
    """Each method runs one step. If the runner fails, nothing counts as computed."""

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        latency_model: LatencyModel,
        stats: EngineStats,
        *,
        deterministic: bool,
        drafts: bool,
    ) -> None:
        self._runner = runner
        self._pace = runner.pace
        self._scheduler = scheduler
        self._latency_model = latency_model
        self._stats = stats
        self._deterministic = deterministic
        self._drafts = drafts

    def runnable(self) -> tuple[SequenceState, ...]:
        """The decoding sequences, without the last ones where those wait for their masks.

        If all of them wait, waits a moment as well.
        """
        sequences = tuple(self._scheduler.decoding)
        if all(sequence.stalled for sequence in sequences):
            wait_for_masks(sequences)
        count = len(sequences)
        while count and sequences[count - 1].stalled:
            count -= 1
        return sequences[:count]

    def decode(self, sequences: Sequence[SequenceState]) -> list[DrawnToken | EngineError | None]:
        """Runs the last token of each sequence, and draws its next one.

        A sequence whose mask is not ready gets None, and runs the same token again next time.

        Raises:
            OutOfMemoryError, StepFailedError: the runner failed.
        """
        context = sum(sequence.computed for sequence in sequences)
        started = time.perf_counter()
        logits = self._logits(sequences)
        drawn = draw(logits[: len(sequences)], sequences, self._stats.mask)
        for sequence, token in zip(sequences, drawn, strict=True):
            sequence.computed += token is not None
        seconds = self._stats.decode.since(started)
        self._stats.rows.add(len(sequences))
        self._latency_model.observe_decode(seconds, rows=len(sequences), context=context)
        return drawn

    def draft(self) -> list[int]:
        """Drafts tokens for a sequence that runs alone; beside others a draft would delay them."""
        scheduler = self._scheduler
        if not self._drafts or scheduler.prefilling or len(scheduler.decoding) > 1:
            return []
        (sequence,) = scheduler.decoding
        wait_for_masks([sequence])
        return sequence.draft(self._pace.draft_token_cost) if sequence.ready else []

    def verify(self, sequence: SequenceState, draft: list[int]) -> Logits:
        """Runs the last token and a draft. Returns logits [1 + drafted, vocabulary].

        The caller adds to `computed`, as far as the draft is accepted.
        """
        started = time.perf_counter()
        tokens = [sequence.output[-1], *draft]
        logits = self._runner.verify(sequence.slot, tokens, sequence.computed)
        self._stats.verify.since(started)
        return logits

    def record_acceptance(self, sequence: SequenceState, draft: list[int], accepted: int) -> None:
        """Records how many tokens of a draft were accepted."""
        if sequence.drafter is not None:
            sequence.drafter.record_acceptance(accepted=accepted, drafted=len(draft))
            self._stats.record_acceptance(len(draft), accepted, forced=sequence.drafter.forced)

    def prefill(self, sequence: SequenceState) -> Logits:
        """Runs the next slice of a prompt. Returns the logits after it [1, vocabulary].

        While the sequence is scoring, they are those after each of the slice's tokens.
        """
        past, scoring = sequence.computed, sequence.is_scoring
        tokens = sequence.group.request.prompt[past : past + self._slice_size(sequence)]
        started = time.perf_counter()
        run = self._runner.verify if scoring else self._runner.prefill
        logits = run(sequence.slot, tokens, past)
        took = self._stats.prefill.since(started)
        if len(tokens) >= SLICE_GRAIN_TOKENS and not scoring:
            self._latency_model.observe_prefill(took, tokens=len(tokens), past=past)
        sequence.computed += len(tokens)
        self._scheduler.ledger.charge(sequence.tenant, prompt=len(tokens))
        return logits

    def _logits(self, sequences: Sequence[SequenceState]) -> Logits:
        last = [sequence.output[-1] for sequence in sequences]
        lengths = [sequence.computed for sequence in sequences]
        if self._deterministic and len(sequences) == 1:
            # A lone row is rounded differently from one of several, so a second row is added.
            # What it writes after the tokens of slot 1 is overwritten by the next ones there.
            last, lengths = [*last, 0], [*lengths, self._scheduler.tokens_in(1)]
        try:
            return self._runner.decode(last, lengths, partial(settings_of, sequences))
        except Exception as error:
            raise failure_of(error) from error

    def _slice_size(self, sequence: SequenceState) -> int:
        size = self._pace.slice_tokens
        if self._scheduler.decoding:
            crowded = self._scheduler.crowded_out(sequence.tenant)
            share = CROWDED_SHARE if crowded else FAIR_SHARE
            size = min(size, self._latency_model.slice_beside_decode(sequence.computed, share))
        unscored = sequence.group.request.unscored_tokens - sequence.computed
        size = min(size, MAX_DRAFT_TOKENS + 1 if sequence.is_scoring else unscored)
        # A last slice of a single token would be rounded differently from a longer one.
        return size - (sequence.remaining_prompt == size + 1)
