"""Turns drawn tokens into events for the event loop, and ends choices and requests."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from rapport.service.engine.errors import ConstraintFailedError, EngineError, failure_of
from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.prefix_cache import PrefixReuse
from rapport.service.engine.messages import RequestFailed, TokenDelta
from rapport.service.engine.outbox import Outbox
from rapport.service.engine.sampling.draw import DrawnToken, draw
from rapport.service.engine.sampling.logits import Logits
from rapport.service.engine.sampling.readiness import is_accepted, wait_until
from rapport.service.engine.scheduling.scheduler import Scheduler
from rapport.service.engine.sequences import SequenceGroup, SequenceState
from rapport.service.engine.stats import EngineStats

log = logging.getLogger(__name__)


class Emitter:
    """Gives sequences their tokens and ends requests. For the engine's thread."""

    def __init__(
        self, scheduler: Scheduler, prefixes: PrefixReuse, outbox: Outbox, stats: EngineStats
    ) -> None:
        self.groups: dict[Generation, SequenceGroup] = {}
        """The requests that have not ended."""
        self._scheduler = scheduler
        self._prefixes = prefixes
        self._outbox = outbox
        self._stats = stats
        self._appended: list[SequenceState] = []
        """Sequences whose last tokens have not been delivered."""
        self._successors: list[SequenceState] = []

    def open(self, generation: Generation) -> None:
        """Puts a request into the waiting queue."""
        group = self.groups[generation] = SequenceGroup(generation)
        self._scheduler.ledger.enter(generation.request.tenant)
        self._scheduler.waiting.append(group)

    def emit(self, sequence: SequenceState, drawn: DrawnToken | EngineError | None) -> None:
        """Appends a drawn token to its sequence, or fails the request if drawing failed.

        Does nothing if none was drawn, or if the request has ended within this step, because
        another of its choices failed. A token under a grammar is passed on by `deliver`, so that
        the grammars of all sequences accept theirs at the same time.
        """
        group = sequence.group
        if drawn is None or group.generation not in self.groups:
            return
        if isinstance(drawn, EngineError):
            self._fail_drawing(group, drawn)
            return
        try:
            sequence.append(*drawn)
        except Exception as error:
            log.exception("a token could not be appended")
            self.fail([group], error)
            return
        if sequence.constraint is None:
            self._deliver(sequence)
        else:
            self._appended.append(sequence)

    def deliver(self) -> None:
        """Passes on the tokens that grammars have accepted, and ends the choices that they end.

        Those that are not accepted within a moment wait for a later call.
        """
        if not self._appended:
            return
        appended, self._appended = self._appended, []
        until = wait_until(appended)
        for sequence in appended:
            if sequence.group.generation not in self.groups:
                continue
            if sequence in sequence.group.running and is_accepted(sequence, until):
                self._deliver(sequence)
            else:
                self._appended.append(sequence)

    def _deliver(self, sequence: SequenceState) -> None:
        group = sequence.group
        try:
            delta = sequence.deliver()
        except ConstraintFailedError as error:
            self.abort(group.generation, error)
            return
        except Exception as error:
            log.exception("a token could not be read")
            self.fail([group], error)
            return
        self._stats.completion_tokens += len(delta.token_ids)
        self._scheduler.ledger.charge(sequence.tenant, output=len(delta.token_ids))
        ended = delta.finish_reason is not None
        urgent = ended or len(sequence.output) == 1
        self._outbox.add(TokenDelta(group.generation, delta), urgent=urgent)
        if ended:
            self._finish(sequence)

    def _fail_drawing(self, group: SequenceGroup, error: EngineError) -> None:
        if isinstance(error, ConstraintFailedError):  # no fault of the step
            self.abort(group.generation, error)
        else:
            self.fail([group], error)

    def sample(self, sequence: SequenceState, logits: Logits) -> None:
        """Draws a token from `logits` [1, vocabulary], which it overwrites, and delivers it."""
        (drawn,) = draw(logits, [sequence], self._stats.mask)
        self.emit(sequence, drawn)
        self.deliver()

    def sample_first(self, sequence: SequenceState) -> None:
        """Draws the first token of a choice whose prompt another choice has computed."""
        logits = sequence.group.prompt_logits
        assert logits is not None, "its prompt was computed"  # noqa: S101 - an invariant
        self.sample(sequence, logits.copy())

    def start_successors(self) -> None:
        """Draws the first tokens of successors. One that finishes at once may have another."""
        while self._successors:
            self.sample_first(self._successors.pop())

    def fail(self, groups: Iterable[SequenceGroup], error: Exception) -> None:
        """Fails the requests that a step ran, as the step has raised an error."""
        self._stats.failed_steps += 1
        for group in groups:
            self.abort(group.generation, failure_of(error))

    def abort(self, generation: Generation, error: EngineError) -> None:
        """Ends a request with an error; does nothing if it has already ended."""
        if (group := self.groups.get(generation)) is not None:
            for sequence in (*group.running, *group.preempted):
                sequence.close()
            self._scheduler.drop(group)
            self._close(generation)
            self._outbox.add(RequestFailed(generation, error))

    def _finish(self, sequence: SequenceState) -> None:
        """Hands the slot of a finished choice to its successor, or frees it."""
        group = sequence.group
        self._prefixes.save(sequence, ended=True)
        try:
            successor = self._scheduler.hand_over(sequence)
        except Exception as error:
            log.exception("a slot could not be handed over")
            self.fail([group], error)
            return
        if successor is not None:
            self._successors.append(successor)
        else:
            self._scheduler.finish(sequence)
            if group.done:
                self._close(group.generation)

    def _close(self, generation: Generation) -> None:
        del self.groups[generation]
        self._scheduler.ledger.leave(generation.request.tenant)
