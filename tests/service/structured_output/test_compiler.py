from __future__ import annotations

import asyncio
import time
from functools import partial
from threading import Event

import pytest

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.sampling.constraint import GrammarCompiler
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output import compiler as module
from rapport.service.structured_output.compiler import FormatCompiler
from rapport.service.structured_output.response_format import Source
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat

KNOWN = ResponseFormat(regex="known|before")
WANTED = ResponseFormat(json_object=JsonObjectFormat(schema='{"type": "null"}'))


@pytest.fixture
def formats(compiler: GrammarCompiler) -> FormatCompiler:
    return FormatCompiler(compiler)


async def test_free_text_needs_no_grammar(formats: FormatCompiler) -> None:
    """Text is answered at once with no grammar."""
    assert await formats.compile_format(ResponseFormat()) is None


async def test_the_same_form_is_compiled_once(formats: FormatCompiler) -> None:
    """A form that comes again gets the grammar that was made for it."""
    first = await formats.compile_format(WANTED)
    assert first is not None
    assert await formats.compile_format(WANTED) is first


async def test_forms_of_one_grammar_leave_few_traces(
    monkeypatch: pytest.MonkeyPatch, formats: FormatCompiler
) -> None:
    """However many there are: the last are known, and none is kept for ever."""
    monkeypatch.setattr(module, "MOST_FORMS", 3)
    forms = [bytes([number]) for number in range(10)]
    same = partial(Source, 'start: "same"', "tools")
    grammars = [await formats.compile(same, "tools", form) for form in forms]
    assert all(grammar is grammars[0] for grammar in grammars)
    assert [formats.recall(form) for form in forms] == [None] * 7 + grammars[:3]


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
    """A grammar that the engine refuses is a fault of its field."""
    with pytest.raises(InvalidRequestError) as caught:
        await formats.compile_format(wanted)
    (violation,) = caught.value.violations
    assert violation.field == field
    assert violation.description.startswith(text)


async def test_compiling_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, compiler: GrammarCompiler
) -> None:
    """What takes too long is refused in time, and the event loop goes on meanwhile."""
    monkeypatch.setattr(module, "SECONDS", 0.1)
    monkeypatch.setattr(compiler, "compile", lambda _source: time.sleep(0.5))
    formats = FormatCompiler(compiler)
    refusal = asyncio.create_task(formats.compile(partial(Source, "", "tools"), "tools", b""))
    await asyncio.sleep(0.01)
    assert not refusal.done()
    with pytest.raises(InvalidRequestError, match=r"takes over 0\.1 s, field: 'tools'"):
        await refusal


async def test_stuck_compiles_hold_up_nobody(
    monkeypatch: pytest.MonkeyPatch, compiler: GrammarCompiler
) -> None:
    """While all threads are stuck, new forms are told so in time; afterwards they are served.

    A form that came before is served all the while.
    """
    monkeypatch.setattr(module, "SECONDS", 0.1)
    formats, freed = FormatCompiler(compiler), Event()
    known = await formats.compile_format(KNOWN)
    stuck = [formats.compile(partial(stay, freed), "tools", b"") for _ in range(module.THREADS)]
    waiting = [formats.compile_format(WANTED), formats.compile_format(KNOWN)]
    *results, again = await asyncio.gather(*stuck, *waiting, return_exceptions=True)
    assert again is known is not None
    assert [type(result) for result in results] == [InvalidRequestError] * module.THREADS + [
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
    """Nor at the moment at which the grammar is there: who is gone must not get a slot."""
    monkeypatch.setattr(compiler, "compile", lambda _source: None)
    monkeypatch.setattr(module, "THREADS", 1)
    formats = FormatCompiler(compiler)
    for turns in range(20):
        compiling = asyncio.create_task(formats.compile(partial(Source, "", "tools"), "tools", b""))
        await asyncio.sleep(0)
        formats._threads.submit(int).result()  # so the work is done, and the loop does not know
        for _ in range(turns):
            await asyncio.sleep(0)
        reached = compiling.cancel()
        await asyncio.wait([compiling])
        assert compiling.cancelled() is reached


async def test_nothing_is_compiled_once_closed(compiler: GrammarCompiler) -> None:
    """What waits at the end is left, so that the process can end."""
    formats, freed = FormatCompiler(compiler), Event()
    stuck = [formats.compile(partial(stay, freed), "tools", b"") for _ in range(module.THREADS)]
    running = [asyncio.create_task(each) for each in (*stuck, formats.compile_format(WANTED))]
    await asyncio.sleep(0.05)
    formats.close()
    freed.set()
    *_, left = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError)


def stay(freed: Event) -> None:
    freed.wait(10)
