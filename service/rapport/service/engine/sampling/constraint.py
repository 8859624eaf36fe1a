"""What output may look like: grammars, and the masks that keep generation inside them."""

from __future__ import annotations

import re
import time
from functools import cached_property
from threading import active_count

import numpy as np
from llguidance import LLExecutor, LLMatcher, LLTokenizer

from rapport.service.engine.errors import ConstraintFailedError
from rapport.service.engine.sampling.arrays import Bytes, Floats, Ids
from rapport.service.engine.sampling.grammar_limits import GrammarBudget
from rapport.service.engine.sampling.grammar_threads import THREADS, GrammarThreads, JobQueue

REFUSED = np.float32(-np.inf)

# The longest text that is split into tokens in advance. This holds the GIL.
MAX_FORCED_BYTES = 4096
# While masks take less, in CPU time, tokens are accepted with the GIL held.
MAX_MASK_WITH_GIL_S = 0.001
# Where a message of llguidance turns from what is wrong to how it found out.
INTERNALS = re.compile("<state>|<non-verbose/>|<backtrace>")
# Parts of its messages, and what they mean.
REASONS = {
    "too many": "it is too large",
    "too large": "it is too large",
    "too big": "it is too large",
    "limit": "it takes too much work",
    "fuel": "it takes too much work",
    "lookaround": "it has look-around, or looks at the characters around it",
    "look-around": "it has look-around",
    "parse error": "it is no regular expression",
}
NO_TEXT = "no text matches it, or no text ends"
# How messages of llguidance begin about what all copies of a grammar share.
LEXER_ERROR = "lexer error"


class Lexer:
    """What the copies of a grammar share. Its states only ever grow in number."""

    exhausted = False
    """Whether it has reached a limit, and no copy can be followed any more."""


class Constraint:
    """The place of one choice in its grammar. For one thread at a time.

    Copies of a grammar share its lexer, and a lock on it. So that the GIL is not held while
    another copy has that lock, the work of one grammar must not overlap.
    """

    def __init__(
        self, matcher: LLMatcher, runtime: GrammarRuntime, lexer: Lexer, budget: GrammarBudget
    ) -> None:
        self.lexer = lexer
        self.mask_s = 0.0
        """CPU time of the last mask."""
        self._matcher = matcher
        self._runtime = runtime
        self._idle = runtime.idle.deep_copy()
        self._budget = budget
        self._allowed = np.zeros(runtime.words, np.uint32)
        self._ready = False
        self._accept_s = 0.0
        self._max_mask_s = 0.0

    def copy(self, budget: GrammarBudget) -> Constraint:
        """Another choice at the same place. Its mask is ready if this one's is."""
        other = Constraint(self._matcher.deep_copy(), self._runtime, self.lexer, budget)
        other._allowed = self._allowed.copy()
        other._ready = self._ready
        other._max_mask_s = self._max_mask_s
        return other

    @property
    def finished(self) -> bool:
        """Whether nothing can follow but the end."""
        return self._matcher.is_stopped()

    @property
    def complete(self) -> bool:
        """Whether the text could end here."""
        return self._matcher.is_accepting()

    def prepare(self) -> None:
        """Computes the next mask without the GIL; `mask` then only applies it.

        Raises:
            ConstraintFailedError: nothing is allowed, or finding out what is takes too much.
        """
        if self._ready:
            return
        started = time.thread_time()
        self._matcher.unsafe_compute_mask_ptr(self._allowed.ctypes.data, self._allowed.nbytes)
        self.mask_s = time.thread_time() - started
        self._max_mask_s = max(self._max_mask_s, self.mask_s)
        self._check()
        self._budget.charge(self.mask_s + self._accept_s)
        self._ready = True

    def mask(self, logits: Floats) -> None:
        """Sets `logits` [vocabulary] to -inf where the token may not come next.

        Tokens that end a turn may come exactly where the text is complete.

        Raises:
            ConstraintFailedError: as `prepare`.
        """
        refused = np.unpackbits(~self.allowed_bits(), count=len(logits), bitorder="little").view(
            np.bool_
        )
        np.copyto(logits, REFUSED, where=refused)

    def allowed_bits(self) -> Bytes:
        """A bit for each token that says whether it may come next, the lowest bit first.

        Raises:
            ConstraintFailedError: as `prepare`.
        """
        self.prepare()
        return self._allowed.view(np.uint8)

    def allowed(self) -> Ids:
        """The tokens that may come next.

        Raises:
            ConstraintFailedError: as `prepare`.
        """
        return np.flatnonzero(np.unpackbits(self.allowed_bits(), bitorder="little"))

    def forced(self) -> list[int]:
        """The tokens of the text that alone can come next, split as the tokenizer would.

        None where that text is long, as it is split with the GIL held.

        Raises:
            ConstraintFailedError: as `prepare`.
        """
        self.prepare()
        if len(self._matcher.compute_ff_bytes()) > MAX_FORCED_BYTES:
            return []
        return list(self._matcher.compute_ff_tokens())

    def accept(self, token: int) -> None:
        """Goes on behind a token.

        Raises:
            ConstraintFailedError: the token was not allowed, or following it takes too much.
        """
        self._ready = False
        started = time.perf_counter()
        if self._max_mask_s < MAX_MASK_WITH_GIL_S or active_count() == 1:
            # The mask went the way of every token, so no token takes longer.
            self._matcher.consume_token(token)
        else:
            # Only for two matchers at once does it release the GIL.
            self._runtime.executor.consume_token_par([(self._matcher, token), (self._idle, token)])
        self._accept_s = time.perf_counter() - started
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            message: str = self._matcher.get_error()
            if message.startswith(LEXER_ERROR):
                self.lexer.exhausted = True
            raise ConstraintFailedError(reason_in(message))


class GrammarRuntime:
    """What the grammars of a vocabulary share: the `words` of 32 bits in a mask, and threads."""

    def __init__(self, tokenizer: LLTokenizer, words: int) -> None:
        self.words = words
        self.idle = LLMatcher(tokenizer, "", log_level=0)
        """A matcher without a grammar, which does nothing."""
        self.threads = GrammarThreads()

    @cached_property
    def executor(self) -> LLExecutor:
        """Has threads, so that a process that forks must not have used it."""
        return LLExecutor(THREADS)


class Grammar:
    """A compiled grammar. Choices and requests share it."""

    def __init__(self, first: Constraint, source: str, jobs: JobQueue) -> None:
        self.source = source
        self.jobs = jobs
        """The work of its choices, which must not overlap."""
        self.first_forced = first.forced()
        """The tokens that alone can come first."""
        self._first = first

    @property
    def exhausted(self) -> bool:
        """Whether it has to be compiled anew."""
        return self._first.lexer.exhausted

    def start(self, budget: GrammarBudget | None = None) -> Constraint:
        """The beginning of a choice. Choices of one request have one budget."""
        return self._first.copy(budget or GrammarBudget())


def reason_in(message: str) -> str:
    """What a message of llguidance means, without its words."""
    wrong = INTERNALS.split(message)[0].lower()
    return next((reason for part, reason in REASONS.items() if part in wrong), NO_TEXT)
