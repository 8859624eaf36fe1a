"""Formats to grammars, beside the event loop and the engine's thread."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from weakref import ref

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.sampling.constraint import Grammar, GrammarCompiler, GrammarError
from rapport.service.structured_output.response_format import Source, source_of
from rapport.service.structured_output.strict_json import refused
from rapport.v1.format_pb2 import ResponseFormat

# One compiles what takes long while the other still serves; more would starve the model.
THREADS = 2
SECONDS = 2.0
MOST_FORMS = 512
SCHEMA_FIELD_ENDS = ("schema", "parameters")


class FormatCompiler:
    """Compiles for one model. The engine's limits bound what a thread can be kept busy with."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self._compiler = compiler
        self._known: OrderedDict[bytes, ref[Grammar]] = OrderedDict()
        """By the hash of their form. Many forms may have the same grammar."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="format")

    async def compile_format(self, wanted: ResponseFormat) -> Grammar | None:
        """The grammar of a form; None where anything goes.

        Raises:
            InvalidRequestError: the form is wrong, cannot be enforced, or takes too long.
            OverloadedError: others take too long for it to begin.
        """
        if wanted.WhichOneof("kind") in (None, "text"):
            return None
        form = wanted.SerializeToString(deterministic=True)
        return await self.compile(lambda: source_of(wanted), "response_format", form)

    async def compile(
        self, source: Callable[[], Source | None], field: str, form: bytes
    ) -> Grammar | None:
        """The grammar of what `source` makes, which is called in a thread too.

        The same `form` stands for the same source: what was compiled lately waits for no thread.

        Raises:
            InvalidRequestError: as `compile_format`.
            OverloadedError: as `compile_format`; `field` names what takes too long.
        """
        if known := self.recall(form):
            return known
        work = self._threads.submit(self._compile, source)
        try:
            # Unlike `wait_for` of Python 3.11, it keeps no cancellation to itself.
            async with asyncio.timeout(SECONDS):
                grammar = await asyncio.wrap_future(work)
        except TimeoutError:
            # Work that can still be cancelled has not begun: it is not what takes long.
            if work.cancelled():
                text = "other grammars are being compiled"
                raise OverloadedError(text, Bound.GRAMMARS, SECONDS) from None
            raise refused(field, f"Compiling the grammar takes over {SECONDS:g} s") from None
        if grammar is not None:
            self._note(form, grammar)
        return grammar

    def recall(self, form: bytes) -> Grammar | None:
        """The grammar of a form that was compiled lately."""
        known = self._known.get(sha256(form).digest())
        grammar = None if known is None else known()
        return grammar and self._compiler.recall(grammar.source)

    def _note(self, form: bytes, grammar: Grammar) -> None:
        self._known[sha256(form).digest()] = ref(grammar)
        if len(self._known) > MOST_FORMS:
            self._known.popitem(last=False)

    def close(self) -> None:
        """Compiles no more. What a thread is at goes on to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _compile(self, source: Callable[[], Source | None]) -> Grammar | None:
        made = source()
        if made is None:
            return None
        try:
            return self._compiler.compile(made.text)
        except GrammarError as error:
            kind = "JSON Schema" if made.field.endswith(SCHEMA_FIELD_ENDS) else "Grammar"
            raise refused(made.field, f"{kind} not supported: {error}") from None
