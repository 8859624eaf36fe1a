"""Compiles response formats to grammars, outside of the event loop and the engine's thread."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from weakref import ref

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.sampling.constraint import Grammar, GrammarCompiler, GrammarError
from rapport.service.structured_output.response_format import GrammarSource, grammar_source
from rapport.service.structured_output.strict_json import field_error
from rapport.v1.format_pb2 import ResponseFormat

# With two threads, short compilations go on beside a long one. More threads would take too much
# CPU time from the model.
THREADS = 2
COMPILE_TIMEOUT_S = 2.0
MAX_KNOWN_KEYS = 512
SCHEMA_FIELD_ENDS = ("schema", "parameters")


class FormatCompiler:
    """Compiles grammars for one model.

    A thread cannot be interrupted, so the limits of the grammar engine bound how long it works.
    """

    def __init__(self, compiler: GrammarCompiler) -> None:
        self._compiler = compiler
        self._known: OrderedDict[bytes, ref[Grammar]] = OrderedDict()
        """By the hash of their keys. Many keys may have the same grammar."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="format")

    async def compile_format(self, response_format: ResponseFormat) -> Grammar | None:
        """The grammar of a response format, or None if it allows any text.

        Raises:
            InvalidRequestError: the format is wrong, cannot be enforced, or takes too long to
                compile.
            OverloadedError: other compilations take so long that this one does not begin.
        """
        if response_format.WhichOneof("kind") in (None, "text"):
            return None
        key = response_format.SerializeToString(deterministic=True)
        return await self.compile(lambda: grammar_source(response_format), "response_format", key)

    async def compile(
        self, source: Callable[[], GrammarSource | None], field: str, key: bytes
    ) -> Grammar | None:
        """The grammar of what `source` returns. `source` too is called in another thread.

        Two calls with the same `key` must have the same source. A grammar that was compiled
        recently is returned without waiting for a thread.

        Raises:
            InvalidRequestError: as `compile_format`. `field` is named if it takes too long.
            OverloadedError: as `compile_format`.
        """
        if known := self.recall(key):
            return known
        work = self._threads.submit(self._compile, source)
        try:
            # Unlike `wait_for` of Python 3.11, it never swallows a cancellation.
            async with asyncio.timeout(COMPILE_TIMEOUT_S):
                grammar = await asyncio.wrap_future(work)
        except TimeoutError:
            # Work that could still be cancelled had not begun, so it is not what takes long.
            if work.cancelled():
                text = "other grammars are being compiled"
                raise OverloadedError(text, Bound.GRAMMARS, COMPILE_TIMEOUT_S) from None
            text = f"Compiling the grammar takes over {COMPILE_TIMEOUT_S:g} s"
            raise field_error(field, text) from None
        if grammar is not None:
            self._remember(key, grammar)
        return grammar

    def recall(self, key: bytes) -> Grammar | None:
        """The grammar of a key, if it was compiled recently."""
        known = self._known.get(sha256(key).digest())
        grammar = None if known is None else known()
        return grammar and self._compiler.recall(grammar.source)

    def _remember(self, key: bytes, grammar: Grammar) -> None:
        self._known[sha256(key).digest()] = ref(grammar)
        if len(self._known) > MAX_KNOWN_KEYS:
            self._known.popitem(last=False)

    def close(self) -> None:
        """Drops the compilations that have not begun. Those that have begun run to their end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _compile(self, source: Callable[[], GrammarSource | None]) -> Grammar | None:
        grammar = source()
        if grammar is None:
            return None
        try:
            return self._compiler.compile(grammar.text)
        except GrammarError as error:
            kind = "JSON Schema" if grammar.field.endswith(SCHEMA_FIELD_ENDS) else "Grammar"
            raise field_error(grammar.field, f"{kind} not supported: {error}") from None
