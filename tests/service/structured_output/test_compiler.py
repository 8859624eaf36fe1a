from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

import pytest

from rapport.service.engine.errors import Bound, OverloadedError
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output import compiler as format_compiler
from rapport.service.structured_output.compiler import FREE_TEXT, FormatCompiler
from rapport.service.structured_output.fork_server import WORKERS
from rapport.service.structured_output.grammar_source import GrammarSource
from rapport.service.structured_output.isolated_compiler import IsolatedCompiler
from rapport.v1.format_pb2 import JsonObjectFormat, ResponseFormat

KNOWN = ResponseFormat(regex="known|before")
WANTED = ResponseFormat(json_object=JsonObjectFormat(schema='{"type": "null"}'))
LETTERS = partial(GrammarSource, "start: /[ab]+/", "tools")


@pytest.fixture
def formats(compiler: GrammarCompiler, isolated: IsolatedCompiler) -> FormatCompiler:
    return FormatCompiler(compiler, isolated)


class Here:
    """Translates in the thread of the caller, so that a test holds it up."""

    def translate(self, translate: Callable[[], Any], _field: str) -> Any:
        return translate()

    def close(self) -> None:
        pass


@pytest.fixture
def held(compiler: GrammarCompiler) -> FormatCompiler:
    return FormatCompiler(compiler, Here())  # type: ignore[arg-type]


async def test_free_text_needs_no_grammar(formats: FormatCompiler) -> None:
    """Free text has no grammar, and does not wait for a thread."""
    assert await formats.compile_format(ResponseFormat(), "") == FREE_TEXT


async def test_the_same_format_is_compiled_once(formats: FormatCompiler) -> None:
    """A format that comes again gets the grammar that was compiled for it."""
    first = await formats.compile_format(WANTED, "")
    assert first.grammar is not None
    assert (await formats.compile_format(WANTED, "")).grammar is first.grammar


async def test_requests_that_come_together_compile_once(held: FormatCompiler) -> None:
    """Requests of the same format wait for the first, and get the grammar that it compiled."""
    calls: list[str] = []
    translate = partial(counted, calls)
    grammars = await asyncio.gather(*[held.compile(translate, "", b"same", "") for _ in range(9)])
    assert len(calls) == 1
    assert all(each.grammar is grammars[0].grammar for each in grammars)


async def test_few_keys_of_one_grammar_are_kept(
    monkeypatch: pytest.MonkeyPatch, formats: FormatCompiler
) -> None:
    """Of many keys for one grammar only the last ones are kept."""
    monkeypatch.setattr(format_compiler, "MAX_KNOWN_KEYS", 3)
    keys = [bytes([number]) for number in range(10)]
    same = partial(GrammarSource, 'start: "same"', "tools")
    grammars = [await formats.compile(same, "tools", key, "") for key in keys]
    assert all(each.grammar is grammars[0].grammar for each in grammars)
    assert [formats.recall(key) for key in keys] == [None] * 7 + grammars[:3]


@pytest.mark.parametrize(
    ("wanted", "field", "text"),
    [
        (ResponseFormat(regex="("), "response_format.regex", "Grammar not supported: "),
        (ResponseFormat(regex=r"[^\s\S]"), "response_format.regex", "Grammar not supported: "),
        (ResponseFormat(grammar='root ::= "a" root'), "response_format.grammar", "Grammar not"),
        (
            ResponseFormat(json_schema='{"type": "string", "minLength": 2, "maxLength": 1}'),
            "response_format.json_schema.minLength",
            "JSON Schema not supported: no value satisfies it",
        ),
    ],
)
async def test_what_does_not_compile_is_named(
    formats: FormatCompiler,
    compiler: GrammarCompiler,
    wanted: ResponseFormat,
    field: str,
    text: str,
) -> None:
    """A grammar that the engine refuses is an error of its field, and is counted."""
    before = compiler.refused
    with pytest.raises(InvalidRequestError) as caught:
        await formats.compile_format(wanted, "")
    (violation,) = caught.value.violations
    assert violation.field == field
    assert violation.description.startswith(text)
    assert compiler.refused == before + 1


async def test_callers_wait_for_their_own_only(held: FormatCompiler) -> None:
    """However much one caller wants compiled, the formats of another are compiled meanwhile."""
    freed = Event()
    flood = [
        asyncio.create_task(held.compile(partial(stay, freed), "", bytes([number]), "greedy"))
        for number in range(20)
    ]
    await asyncio.sleep(0)
    for number in range(5):
        wanted = ResponseFormat(regex=f"other{number}")
        assert await held.compile_format(wanted, "other") is not None
    assert not any(task.done() for task in flood)
    freed.set()
    await asyncio.gather(*flood)


async def test_who_waits_too_long_is_refused(
    monkeypatch: pytest.MonkeyPatch, held: FormatCompiler
) -> None:
    """While all are stuck, new formats are refused in time, and served afterwards.

    A format that is known is served all the time.
    """
    monkeypatch.setattr(format_compiler, "MAX_WAIT_S", 0.1)
    known, freed = await held.compile_format(KNOWN, ""), Event()
    stuck = [
        asyncio.create_task(held.compile(partial(stay, freed), "", name.encode(), name))
        for name in map(str, range(WORKERS))
    ]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as caught:
        await held.compile_format(WANTED, "")
    assert caught.value.bound is Bound.GRAMMARS
    assert await held.compile_format(KNOWN, "") == known
    freed.set()
    await asyncio.gather(*stuck)
    assert await held.compile_format(WANTED, "") is not None


async def test_nothing_is_compiled_once_closed(held: FormatCompiler) -> None:
    """Compilations that wait are dropped at the end, so that the process can end."""
    freed = Event()
    running = asyncio.create_task(held.compile(partial(stay, freed), "", b"", ""))
    await asyncio.sleep(0)
    held.close()
    freed.set()
    assert await running is not None
    with pytest.raises(RuntimeError):
        await held.compile_format(WANTED, "")


def stay(freed: Event) -> GrammarSource:
    freed.wait(60)
    return LETTERS()


def counted(calls: list[str]) -> GrammarSource:
    calls.append("")
    return LETTERS()


async def test_memory_of_grammars_is_bounded(held: FormatCompiler) -> None:
    """Who holds large grammars gets no other until one is gone; others get theirs."""

    def large(name: str, mebibytes: int) -> tuple[Callable[[], GrammarSource], str, bytes]:
        source = GrammarSource(f'start: "{name}"', "tools", memory_bytes=mebibytes << 20)
        return lambda: source, "tools", name.encode()

    first = await held.compile(*large("first", 600), "greedy")
    with pytest.raises(OverloadedError, match="too much memory"):
        await held.compile(*large("second", 300), "greedy")
    assert await held.compile(*large("other", 300), "modest") is not None
    del first
    assert await held.compile(*large("second", 300), "greedy") is not None
