"""Compiles response formats to grammars, outside of the event loop and the engine's thread."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from weakref import ref

from rapport.common.fair_threads import FairThreads
from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.alphabet import Alphabet
from rapport.service.structured_output.fork_server import Translate
from rapport.service.structured_output.grammar_memory import GrammarMemory
from rapport.service.structured_output.grammar_source import compile_source
from rapport.service.structured_output.isolated_compiler import IsolatedCompiler
from rapport.service.structured_output.response_format import grammar_source
from rapport.v1.format_pb2 import ResponseFormat

# Compilations at once, each of another caller. More would take too much processor time from the
# model.
THREADS = 2
# For those of the same caller that came before, and for turns of other callers.
MAX_WAIT_S = 10.0
MAX_KNOWN_KEYS = 512
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class CompiledFormat:
    """What an answer has to be like."""

    grammar: Grammar | None = None
    """None if any text will do."""
    unenforced: tuple[str, ...] = ()
    """The paths of what the grammar does not enforce."""


FREE_TEXT = CompiledFormat()


class FormatCompiler:
    """Compiles grammars for one model. Callers take turns, so that none waits for another's.

    A grammar is first compiled in a process of its own, within limits of time and memory. Then it
    is compiled here, which takes as much, so that it never takes too much.
    """

    def __init__(self, compiler: GrammarCompiler, isolated: IsolatedCompiler) -> None:
        self._compiler = compiler
        self._isolated = isolated
        self.alphabet = Alphabet.of_bytes(compiler.single_bytes)
        """What the model can write into the strings of its JSON."""
        self._known: OrderedDict[bytes, tuple[ref[Grammar], tuple[str, ...]]] = OrderedDict()
        """By the hash of their keys. Many keys may have the same grammar."""
        self._memory = GrammarMemory()
        self._threads = FairThreads(THREADS, "format")

    async def compile_format(self, response_format: ResponseFormat, caller: str) -> CompiledFormat:
        """The grammar of a response format.

        Raises:
            InvalidRequestError: the format is wrong, cannot be enforced, or takes too much time
                or memory to compile.
            OverloadedError: other compilations take so long that this one does not begin, or the
                caller's other grammars take too much memory.
        """
        if response_format.WhichOneof("kind") in (None, "text"):
            return FREE_TEXT
        key = response_format.SerializeToString(deterministic=True)
        translate = partial(grammar_source, response_format, self.alphabet)
        return await self.compile(translate, "response_format", key, caller)

    async def compile(
        self, translate: Translate, field: str, key: bytes, caller: str
    ) -> CompiledFormat:
        """The grammar of what `translate` returns, which is called in another process.

        Two calls with the same `key` must have the same translation. A grammar that was compiled
        recently is returned without waiting. Of one `caller`, such as an API key, one grammar is
        compiled at a time.

        Raises:
            InvalidRequestError: as `compile_format`. `field` is named if it takes too much.
            OverloadedError: as `compile_format`.
        """
        if known := self.recall(key):
            return known
        work = partial(self._compile, translate, field, key, caller)
        try:
            return await self._threads.run(caller, work, MAX_WAIT_S)
        except TimeoutError:
            text = "other grammars are being compiled"
            raise OverloadedError(text, Bound.GRAMMARS, MAX_WAIT_S) from None

    def recall(self, key: bytes) -> CompiledFormat | None:
        """The grammar of a key, if it was compiled recently."""
        known, unenforced = self._known.get(sha256(key).digest(), (None, ()))
        grammar = known and known()
        recent = grammar and self._compiler.recall(grammar.source)
        return CompiledFormat(recent, unenforced) if recent else None

    def close(self) -> None:
        """Drops the compilations that have not begun, and ends the others."""
        self._threads.close()
        self._isolated.close()

    def _compile(self, translate: Translate, field: str, key: bytes, caller: str) -> CompiledFormat:
        # Requests with the same format often come together.
        if known := self.recall(key):
            return known
        began = time.perf_counter()
        try:
            source = self._isolated.translate(translate, field)
        except InvalidRequestError:
            self._compiler.record(time.perf_counter() - began, refused=True)
            raise
        if source is None:
            return FREE_TEXT
        self._make_room(caller, source.memory_bytes)
        grammar = compile_source(self._compiler, source)
        self._memory.add(grammar, caller, source.memory_bytes)
        self._known[sha256(key).digest()] = ref(grammar), source.unenforced
        if len(self._known) > MAX_KNOWN_KEYS:
            self._known.popitem(last=False)
        return CompiledFormat(grammar, source.unenforced)

    def _make_room(self, caller: str, size_bytes: int) -> None:
        """Raises `OverloadedError` if grammars that are in use leave no room for another."""
        if self._memory.has_room(caller, size_bytes):
            return
        self._compiler.forget_all()
        if not self._memory.has_room(caller, size_bytes):
            text = "the grammars of other requests take too much memory"
            raise OverloadedError(text, Bound.GRAMMARS, RETRY_S)
