from __future__ import annotations

import asyncio
import time
from functools import partial
from threading import Event

import pytest

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.sampling.constraint import GrammarCompiler
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output import compiler as format_compiler
from rapport.service.structured_output.compiler import THREADS, FormatCompiler
from rapport.service.structured_output.response_format import GrammarSource
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat

KNOWN = ResponseFormat(regex="known|before")
WANTED = ResponseFormat(json_object=JsonObjectFormat(schema='{"type": "null"}'))


@pytest.fixture
def formats(compiler: GrammarCompiler) -> FormatCompiler:
    return FormatCompiler(compiler)


async def test_free_text_needs_no_grammar(formats: FormatCompiler) -> None:
    """Free text has no grammar, and does not wait for a thread."""
    assert await formats.compile_format(ResponseFormat()) is None


async def test_the_same_format_is_compiled_once(formats: FormatCompiler) -> None:
    """A format that comes again gets the grammar that was compiled for it."""
    first = await formats.compile_format(WANTED)
    assert first is not None
    assert await formats.compile_format(WANTED) is first


async def test_few_keys_of_one_grammar_are_kept(
    monkeypatch: pytest.MonkeyPatch, formats: FormatCompiler
) -> None:
    """Of many keys for one grammar only the last ones are kept."""
    monkeypatch.setattr(format_compiler, "MAX_KNOWN_KEYS", 3)
    keys = [bytes([number]) for number in range(10)]
    same = partial(GrammarSource, 'start: "same"', "tools")
    grammars = [await formats.compile(same, "tools", key) for key in keys]
    assert all(grammar is grammars[0] for grammar in grammars)
    assert [formats.recall(key) for key in keys] == [None] * 7 + grammars[:3]


@pytest.mark.parametrize(
    ("wanted", "field", "text"),
    [
        (ResponseFormat(regex="("), "response_format.regex", "Grammar not supported: "),
        (ResponseFormat(regex=r"[^\s\S]"), "response_format.regex", "Grammar not supported: "),
        (ResponseFormat(grammar='root ::= "a" root'), "response_format.grammar", "Grammar not"),
        (
            ResponseFormat(json_schema='{"type": "string", "minLength": 2, "maxLength": 1}'),
            "response_format.json_schema",
            "JSON Schema not supported: Unsatisfiable schema",
        ),
    ],
)
async def test_what_does_not_compile_is_named(
    formats: FormatCompiler, wanted: ResponseFormat, field: str, text: str
) -> None:
    """A grammar that the engine refuses is an error of its field."""
    with pytest.raises(InvalidRequestError) as caught:
        await formats.compile_format(wanted)
    (violation,) = caught.value.violations
    assert violation.field == field
    assert violation.description.startswith(text)


async def test_compiling_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, compiler: GrammarCompiler
) -> None:
    """A compilation that takes too long is refused in time. It does not block the event loop."""
    monkeypatch.setattr(format_compiler, "COMPILE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(compiler, "compile", lambda _source: time.sleep(0.5))
    formats = FormatCompiler(compiler)
    refusal = asyncio.create_task(
        formats.compile(partial(GrammarSource, "", "tools"), "tools", b"")
    )
    await asyncio.sleep(0.01)
    assert not refusal.done()
    with pytest.raises(InvalidRequestError, match=r"takes over 0\.1 s, field: 'tools'"):
        await refusal


async def test_stuck_compilations_block_nobody(
    monkeypatch: pytest.MonkeyPatch, compiler: GrammarCompiler
) -> None:
    """While all threads are stuck, new formats are refused in time. Afterwards they are served.

    A format that is known is served all the time.
    """
    monkeypatch.setattr(format_compiler, "COMPILE_TIMEOUT_S", 0.1)
    formats, freed = FormatCompiler(compiler), Event()
    known = await formats.compile_format(KNOWN)
    stuck = [formats.compile(partial(stay, freed), "tools", b"") for _ in range(THREADS)]
    waiting = [formats.compile_format(WANTED), formats.compile_format(KNOWN)]
    *results, again = await asyncio.gather(*stuck, *waiting, return_exceptions=True)
    assert again is known is not None
    assert [type(result) for result in results] == [InvalidRequestError] * THREADS + [
        OverloadedError
    ]
    assert isinstance(results[-1], OverloadedError)
    assert results[-1].bound is Bound.GRAMMARS
    freed.set()
    monkeypatch.undo()
    assert await formats.compile_format(WANTED) is not None


async def test_a_cancellation_is_never_lost(
    monkeypatch: pytest.MonkeyPatch, compiler: GrammarCompiler
) -> None:
    """Not even when the grammar is just ready: a cancelled request must not get a slot."""
    monkeypatch.setattr(compiler, "compile", lambda _source: None)
    monkeypatch.setattr(format_compiler, "THREADS", 1)
    formats = FormatCompiler(compiler)
    for turns in range(20):
        compiling = asyncio.create_task(
            formats.compile(partial(GrammarSource, "", "tools"), "tools", b"")
        )
        await asyncio.sleep(0)
        formats._threads.submit(int).result()  # so the work is done, and the loop does not know
        for _ in range(turns):
            await asyncio.sleep(0)
        reached = compiling.cancel()
        await asyncio.wait([compiling])
        assert compiling.cancelled() is reached


async def test_nothing_is_compiled_once_closed(compiler: GrammarCompiler) -> None:
    """Compilations that wait are dropped at the end, so that the process can end."""
    formats, freed = FormatCompiler(compiler), Event()
    stuck = [formats.compile(partial(stay, freed), "tools", b"") for _ in range(THREADS)]
    running = [asyncio.create_task(each) for each in (*stuck, formats.compile_format(WANTED))]
    await asyncio.sleep(0.05)
    formats.close()
    freed.set()
    *_, left = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError)


def stay(freed: Event) -> None:
    freed.wait(10)
