"""A constraint that is advanced beside the model's run."""

from __future__ import annotations

import logging
from functools import partial
from threading import Event

from rapport.service.engine.errors import ConstraintFailedError, EngineError, failure_of
from rapport.service.engine.sampling.arrays import Bytes, Floats
from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_limits import GrammarBudget

log = logging.getLogger(__name__)

# A grammar that takes longer for a token, in CPU time, is slow: nobody waits for its next mask.
MAX_FAST_S = 0.005


class BackgroundConstraint:
    """The place of one choice in its grammar, for the engine's thread.

    A token is accepted and the mask after it computed in another thread. Until then the choice
    cannot have its next token.
    """

    def __init__(self, grammar: Grammar, budget: GrammarBudget) -> None:
        self.skipped = False
        """Whether a step was over before the mask was ready."""
        self._constraint = grammar.start(budget)
        self._jobs = grammar.jobs
        self._forced = grammar.first_forced
        self._finished = False
        self._error: EngineError | None = None
        self._passed = True
        """Whether the grammar has accepted the last token, even if the mask failed after it."""
        self._closed = False
        self._accepted = Event()
        self._ready = Event()
        self._accepted.set()
        self._ready.set()

    @property
    def late(self) -> bool:
        """Whether its next mask is not worth waiting for, or was waited for."""
        return self.skipped or self._jobs.slow

    @property
    def ready(self) -> bool:
        """Whether the next mask is there, or will never be."""
        return self._ready.is_set()

    @property
    def mask_s(self) -> float:
        """CPU time of the last mask."""
        return self._constraint.mask_s

    def accept(self, token: int) -> None:
        """Begins to go on behind a token."""
        self._accepted.clear()
        self._ready.clear()
        self.skipped = self._passed = False
        self._jobs.submit(partial(self._accept, token))

    def wait_accepted(self, timeout_s: float) -> bool:
        """Whether the last token was accepted within some seconds."""
        return self._accepted.wait(timeout_s)

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the next mask was ready within some seconds."""
        return self._ready.wait(timeout_s)

    def finished(self) -> bool:
        """Whether nothing can follow the last token but the end. The token has to be accepted.

        Raises:
            EngineError: the grammar did not accept it.
        """
        if not self._passed and self._error is not None:
            raise self._error
        return self._finished

    def mask(self, logits: Floats) -> None:
        """As `Constraint.mask`, once it is `ready`.

        Raises:
            EngineError: the grammar cannot be followed.
        """
        if self._error is not None:
            raise self._error
        self._constraint.mask(logits)

    def allowed_bits(self) -> Bytes:
        """As `Constraint.allowed_bits`, once it is `ready`.

        Raises:
            EngineError: the grammar cannot be followed.
        """
        if self._error is not None:
            raise self._error
        return self._constraint.allowed_bits()

    def forced(self) -> list[int]:
        """As `Constraint.forced`, once it is `ready`."""
        return self._forced

    def close(self) -> None:
        """Drops what has not begun."""
        self._closed = True

    def _accept(self, token: int) -> None:
        try:
            if not self._closed:
                self._advance(token)
        except ConstraintFailedError as error:
            self._error = error
        except BaseException as error:  # a panic in Rust is no Exception
            log.exception("a grammar could not be followed")
            self._error = failure_of(error)
        finally:
            self._accepted.set()
            self._ready.set()

    def _advance(self, token: int) -> None:
        self._constraint.accept(token)
        self._finished = self._constraint.finished
        self._passed = True
        self._accepted.set()
        if not self._finished:
            self._constraint.prepare()
            self._forced = self._constraint.forced()
            self._jobs.slow = self._constraint.mask_s > MAX_FAST_S
