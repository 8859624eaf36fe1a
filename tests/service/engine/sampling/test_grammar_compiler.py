from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rapport.service.engine.errors import ConstraintFailedError
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler, GrammarError
from rapport.service.engine.text.vocabulary import Vocabulary
from tests.service.engine.sampling.grammars import ENDS, EXACT, LETTERS, follow


def test_an_exhausted_grammar_is_compiled_anew(
    compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    """Once the states of its lexer are too many no copy can be followed, but a new grammar can."""
    source = "start: /(a|b)*a(a|b){16}c/"
    letters = [vocabulary.token_bytes.index(letter) for letter in (b"a", b"b")]
    exhausted = compiler.compile(source)
    text = np.random.default_rng(1).choice(letters, 10_000)
    with pytest.raises(ConstraintFailedError, match="it is too large"):
        follow(exhausted.start(), text.tolist())
    with pytest.raises(ConstraintFailedError, match="it is too large"):
        follow(exhausted.start(), letters)
    assert compiler.recall(source) is None
    follow(compiler.compile(source).start(), letters)


def test_an_ambiguous_grammar_is_refused(compiler: GrammarCompiler) -> None:
    """Where a text can be read in many ways, the work in a row grows with the cube of them."""
    source = r"""start: e
e: e e e | e e | /[ -~]/ | /[ -~]/ /[ -~]/"""
    began = time.process_time()
    with pytest.raises(GrammarError, match="it is too large"):
        compiler.compile(source)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "source",
    ["", "start: missing", "start: /(/", r"start: /[^\s\S]/", "start: a\na: a", 'start: "x" start'],
)
def test_bad_grammars_are_refused(compiler: GrammarCompiler, source: str) -> None:
    """A grammar that is wrong, empty or endless does not compile, and says why in one line."""
    with pytest.raises(GrammarError, match=r"\A[^\n]+\Z"):
        compiler.compile(source)


def test_grammars_are_remembered(vocabulary: Vocabulary) -> None:
    """The grammars used last are not compiled again; others are forgotten."""
    compiler = GrammarCompiler(vocabulary, ENDS, most=2)
    first, second = compiler.compile(LETTERS), compiler.compile(EXACT)
    assert compiler.compile(LETTERS) is first
    compiler.compile('start: "third"')
    assert compiler.recall(LETTERS) is first
    assert compiler.recall(EXACT) is None
    assert compiler.compile(EXACT) is not second


def test_memory_for_sources_is_bounded(vocabulary: Vocabulary) -> None:
    """A source that is larger than all the room is compiled and not kept."""
    compiler = GrammarCompiler(vocabulary, ENDS, most_bytes=len(LETTERS))
    compiler.compile(LETTERS)
    assert compiler.recall(LETTERS) is not None
    compiler.compile(EXACT)
    assert compiler.recall(EXACT) is None


def test_threads_compile_beside_each_other(compiler: GrammarCompiler) -> None:
    """Many threads may compile and start at once."""
    sources = [f'start: "{number % 7}"' for number in range(60)]
    with ThreadPoolExecutor(6) as pool:
        constraints = list(pool.map(lambda source: compiler.compile(source).start(), sources))
    assert all(len(constraint.allowed()) == 1 for constraint in constraints)
