"""What output may look like: grammars, and the masks that keep generation inside them."""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from secrets import token_hex
from threading import Lock

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from rapport.service.engine.errors import EngineError
from rapport.service.engine.sampling.arrays import Floats, Ids
from rapport.service.engine.stats import COMPILE_BOUNDS, Histogram

WORD_BITS = 32
REFUSED = np.float32(-np.inf)

# What a grammar may cost: with these a mask of the most ambiguous grammars that we know takes
# 0.15 s of CPU time, a token that is accepted 0.03 s, and a choice below some 50 MB. The work in a
# row grows with the cube of its items. Of 3,000 schemas of JSONSchemaBench none needs more than
# 2,000 items or a row of 160; a right-recursive list needs one in a row for each element.
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    max_items_in_row=1_000,
    step_max_items=10_000,
    max_lexer_states=25_000,
    max_grammar_size=500_000,
    verbose_errors=False,
)
# How many tokens a new grammar is tried with.
TRIAL_TOKENS = 3
MAX_REASON_CHARS = 300
# Where a message of llguidance turns from what is wrong to how it found out.
INTERNALS = re.compile("<state>|<non-verbose/>|<backtrace>")


class GrammarError(Exception):
    """The grammar is wrong, or more than this server takes on."""


class ConstraintFailedError(EngineError):
    """The grammar of a request became too complex to follow, or admits nothing."""


class Constraint:
    """The place of one choice in its grammar. For one thread at a time."""

    def __init__(self, matcher: LLMatcher, words: int) -> None:
        self._matcher = matcher
        self._allowed = np.zeros(words, np.uint32)
        self._ready = False

    @property
    def finished(self) -> bool:
        """Whether nothing can follow but the end."""
        return self._matcher.is_stopped()

    @property
    def complete(self) -> bool:
        """Whether the text could end here."""
        return self._matcher.is_accepting()

    def prepare(self) -> None:
        """Computes the next mask, outside of the GIL; `mask` then only applies it.

        Raises:
            ConstraintFailedError: nothing is allowed, or finding out what is takes too much.
        """
        if not self._ready:
            self._matcher.unsafe_compute_mask_ptr(self._allowed.ctypes.data, self._allowed.nbytes)
            self._check()
            self._ready = True

    def mask(self, logits: Floats) -> None:
        """Sets `logits` [vocabulary] to -inf where the token may not come next.

        Tokens that end a turn may come exactly where the text is complete.

        Raises:
            ConstraintFailedError: as `prepare`.
        """
        self.prepare()
        refused = np.unpackbits(
            ~self._allowed.view(np.uint8), count=len(logits), bitorder="little"
        ).view(np.bool_)
        np.copyto(logits, REFUSED, where=refused)

    def allowed(self) -> Ids:
        """The tokens that may come next.

        Raises:
            ConstraintFailedError: as `prepare`.
        """
        self.prepare()
        return np.flatnonzero(np.unpackbits(self._allowed.view(np.uint8), bitorder="little"))

    def forced(self) -> list[int]:
        """The tokens of the text that alone can come next, split as the tokenizer would."""
        return list(self._matcher.compute_ff_tokens())

    def accept(self, token: int) -> None:
        """Goes on behind a token.

        Raises:
            ConstraintFailedError: the token was not allowed, or following it takes too much.
        """
        self._ready = False
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = _reason_in(self._matcher.get_error())
            raise ConstraintFailedError(f"the grammar cannot be followed: {reason}")


class Grammar:
    """A compiled grammar. Choices and requests share it."""

    def __init__(self, matcher: LLMatcher, words: int, source: str) -> None:
        self.source = source
        self._matcher = matcher
        self._words = words

    def start(self) -> Constraint:
        """The beginning of a choice."""
        return Constraint(self._matcher.deep_copy(), self._words)


class GrammarCompiler:
    """Compiles grammars for one vocabulary, and remembers those used last.

    Its methods may be called from any thread; compiling leaves the GIL to others.
    """

    def __init__(
        self,
        tokenizer_json: str,
        size: int,
        ends: Sequence[int],
        *,
        most: int = 128,
        most_bytes: int = 8 << 20,
    ) -> None:
        self._tokenizer = LLTokenizer(
            _without_special_names(tokenizer_json), n_vocab=size, eos_token=list(ends)
        )
        self._words = -(-size // WORD_BITS)
        self.compile_times = Histogram(COMPILE_BOUNDS)
        """Seconds that compiling took, of the grammars that were refused as well."""
        self.recalled = 0
        self.refused = 0
        self._recent: OrderedDict[str, Grammar] = OrderedDict()
        self._most = most
        self._room = most_bytes
        self._lock = Lock()

    def recall(self, source: str) -> Grammar | None:
        """The grammar of a source that was compiled lately."""
        with self._lock:
            if source in self._recent:
                self._recent.move_to_end(source)
                self.recalled += 1
            return self._recent.get(source)

    def compile(self, source: str) -> Grammar:
        """The grammar of a source: Lark as llguidance has it, or its JSON form.

        Raises:
            GrammarError: the source is wrong, admits nothing, or asks too much.
        """
        if grammar := self.recall(source):
            return grammar
        began = time.perf_counter()
        try:
            grammar = self._compile(source)
        except GrammarError:
            self.record(time.perf_counter() - began, refused=True)
            raise
        self.record(time.perf_counter() - began, refused=False)
        self._remember(source, grammar)
        return grammar

    def _compile(self, source: str) -> Grammar:
        matcher = LLMatcher(self._tokenizer, source, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise GrammarError(_reason_in(matcher.get_error()))
        grammar = Grammar(matcher, self._words, source)
        _try_out(grammar)
        return grammar

    def record(self, seconds: float, *, refused: bool) -> None:
        """Counts a compilation, also one that was refused elsewhere."""
        with self._lock:
            self.compile_times.add(seconds)
            self.refused += refused

    def _remember(self, source: str, grammar: Grammar) -> None:
        with self._lock:
            if source not in self._recent:
                self._room -= len(source)
            self._recent[source] = grammar
            while len(self._recent) > self._most or (self._room < 0 and self._recent):
                forgotten, _ = self._recent.popitem(last=False)
                self._room += len(forgotten)


def _without_special_names(tokenizer_json: str) -> str:
    """A byte-pair tokenizer with other names for its special tokens, which nobody can know.

    The grammar engine splits text that alone can come by the tokenizer, which would take the
    name of a special token for that token, and then refuse it as no text.
    """
    tokenizer = json.loads(tokenizer_json)
    vocabulary, secret = tokenizer["model"]["vocab"], token_hex(16)
    for token in tokenizer.get("added_tokens", []):
        if token["special"]:
            vocabulary.pop(token["content"], None)
            token["content"] = f"{secret} {token['id']}"
        # Added tokens that it lacks would be numbered anew.
        vocabulary[token["content"]] = token["id"]
    return json.dumps(tokenizer)


def _try_out(grammar: Grammar) -> None:
    """Follows a grammar for some tokens: most of those that cannot be followed fail at once."""
    constraint = grammar.start()
    try:
        for _ in range(TRIAL_TOKENS):
            if constraint.finished:
                return
            tokens = constraint.allowed()
            constraint.accept(int(tokens[len(tokens) // 2]))
    except ConstraintFailedError as error:
        raise GrammarError(str(error)) from error


def _reason_in(message: str) -> str:
    """What went wrong, in one line and without the parser's state."""
    return " ".join(INTERNALS.split(message)[0].split())[:MAX_REASON_CHARS]
