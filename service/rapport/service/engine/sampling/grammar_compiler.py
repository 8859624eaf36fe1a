"""Compiles grammars for one vocabulary."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from rapport.service.engine.errors import ConstraintFailedError
from rapport.service.engine.sampling.constraint import (
    Constraint,
    Grammar,
    GrammarRuntime,
    Lexer,
    reason_in,
)
from rapport.service.engine.sampling.grammar_limits import PARSER_LIMITS, GrammarBudget
from rapport.service.engine.stats import COMPILE_BOUNDS, Histogram
from rapport.service.engine.text.vocabulary import Vocabulary

WORD_BITS = 32
# How many tokens a new grammar is tried with.
TRIAL_TOKENS = 3


class GrammarError(Exception):
    """The grammar is wrong, or more than this server takes on."""


class GrammarCompiler:
    """Compiles grammars for one vocabulary, and remembers those used last.

    Its methods may be called from any thread; compiling leaves the GIL to others.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        ends: Sequence[int],
        *,
        most: int = 128,
        most_bytes: int = 256 << 20,
    ) -> None:
        size = vocabulary.size
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(_Tokens(vocabulary, ends[0])), n_vocab=size, eos_token=list(ends)
        )
        self.single_bytes = frozenset(each[0] for each in vocabulary.token_bytes if len(each) == 1)
        """The bytes that have tokens of their own. Others cannot always be written."""
        self._runtime = GrammarRuntime(self._tokenizer, words=-(-size // WORD_BITS))
        self.compile_times = Histogram(COMPILE_BOUNDS)
        """Seconds that compiling took, of the grammars that were refused as well."""
        self.recalled = 0
        self.refused = 0
        self._recent: OrderedDict[str, Grammar] = OrderedDict()
        self._most = most
        self._sizes: dict[str, int] = {}
        self._most_bytes = most_bytes
        self._lock = Lock()

    def recall(self, source: str) -> Grammar | None:
        """The grammar of a source that was compiled lately."""
        with self._lock:
            grammar = self._recent.get(source)
            if grammar is None or grammar.exhausted:
                return None
            self._recent.move_to_end(source)
            self.recalled += 1
            return grammar

    def compile(self, source: str, memory_bytes: int = 0) -> Grammar:
        """The grammar of a source: Lark as llguidance has it, or its JSON form.

        `memory_bytes` is what it is known to take. It is remembered for as long as there is room.

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
        self._remember(source, grammar, max(memory_bytes, len(source)))
        return grammar

    def _compile(self, source: str) -> Grammar:
        matcher = LLMatcher(self._tokenizer, source, log_level=0, limits=PARSER_LIMITS)
        if matcher.is_error():
            raise GrammarError(reason_in(matcher.get_error()))
        try:
            first = Constraint(matcher, self._runtime, Lexer(), GrammarBudget())
            grammar = Grammar(first, source, self._runtime.threads.queue())
            _try_out(grammar.start())
        except ConstraintFailedError as error:
            raise GrammarError(error.reason) from error
        return grammar

    def record(self, seconds: float, *, refused: bool) -> None:
        """Counts a compilation, also one that was refused elsewhere."""
        with self._lock:
            self.compile_times.add(seconds)
            self.refused += refused

    def forget_all(self) -> None:
        """Forgets the grammars; those that are in use go on."""
        with self._lock:
            self._recent.clear()
            self._sizes.clear()

    def _remember(self, source: str, grammar: Grammar, size_bytes: int) -> None:
        with self._lock:
            self._recent[source], self._sizes[source] = grammar, size_bytes
            while len(self._recent) > self._most or sum(self._sizes.values()) > self._most_bytes:
                forgotten, _ = self._recent.popitem(last=False)
                del self._sizes[forgotten]


class _Tokens:
    """A vocabulary in the form that the grammar engine takes: the bytes of tokens, and a tokenizer.

    The engine would read `tokenizer.json` by itself, but takes seconds for a large vocabulary,
    and all tokens in angle brackets for special ones. Special tokens here have no bytes.
    """

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, end: int) -> None:
        self.eos_token_id = end
        self.tokens = list(vocabulary.token_bytes)
        self._vocabulary = vocabulary

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text that may come next in the middle of an answer."""
        return self._vocabulary.encode_continuation(text)


def _try_out(constraint: Constraint) -> None:
    """Follows a grammar for some tokens: most of those that cannot be followed fail at once.

    Raises:
        ConstraintFailedError: this one cannot.
    """
    for _ in range(TRIAL_TOKENS):
        if constraint.finished:
            return
        tokens = constraint.allowed()
        constraint.accept(int(tokens[len(tokens) // 2]))
