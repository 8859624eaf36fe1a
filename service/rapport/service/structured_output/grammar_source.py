"""A grammar before it is compiled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler, GrammarError
from rapport.service.structured_output.strict_json import field_error

NOT_SUPPORTED = "Grammar not supported"
# As JSON, in a header. A status has more than half of the 8 KiB of trailers that clients read.
MAX_UNENFORCED_BYTES = 2000
ELLIPSIS = "..."


@dataclass(frozen=True, slots=True)
class GrammarSource:
    """A grammar in the syntax of the grammar engine, and the request field that it is from."""

    text: str
    field: str
    unenforced: tuple[str, ...] = ()
    """The paths of what the grammar does not enforce."""
    memory_bytes: int = dataclasses.field(default=0, compare=False)
    """How much memory it takes when it is compiled, once that was measured."""
    if_refused: Callable[[], GrammarSource] | None = dataclasses.field(default=None, compare=False)
    """Another grammar in place of one that the engine refuses; it may raise what is wrong."""


def compile_source(compiler: GrammarCompiler, source: GrammarSource) -> Grammar:
    """The grammar of a source.

    Raises:
        InvalidRequestError: the grammar engine refuses it.
    """
    try:
        return compiler.compile(source.text, source.memory_bytes)
    except GrammarError as error:
        raise field_error(source.field, f"{NOT_SUPPORTED}: {error}") from None


def first_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """As many paths as have `MAX_UNENFORCED_BYTES` in JSON, and an ellipsis for the others.

    Thousands of places below a long key have paths of hundreds of megabytes together.
    """
    left = MAX_UNENFORCED_BYTES - len(json.dumps([ELLIPSIS]))
    for place, path in enumerate(paths):
        left -= len(json.dumps(path)) + len(", ")
        if left < 0:
            return (*paths[:place], ELLIPSIS)
    return tuple(paths)
