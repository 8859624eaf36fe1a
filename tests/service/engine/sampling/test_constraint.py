from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rapport.service.engine.errors import ConstraintFailedError
from rapport.service.engine.sampling.constraint import Constraint, GrammarCompiler, GrammarError
from rapport.service.engine.text.vocabulary import Vocabulary

SIZE = 49152
ENDS = (0, 2)
LETTERS = "start: /[ab]+/"
EXACT = 'start: "yes" | "no"'


@pytest.fixture(scope="module")
def tokenizer_json(cpu_folder: Path) -> str:
    return (cpu_folder / "tokenizer.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def vocabulary(tokenizer_json: str) -> Vocabulary:
    return Vocabulary(tokenizer_json, SIZE)


@pytest.fixture(scope="module")
def compiler(tokenizer_json: str) -> GrammarCompiler:
    return GrammarCompiler(tokenizer_json, SIZE, ENDS)


def spelled(vocabulary: Vocabulary, constraint: Constraint) -> set[bytes]:
    return {vocabulary.token_bytes[token] for token in constraint.allowed()}


def follow(constraint: Constraint, tokens: list[int]) -> None:
    for token in tokens:
        constraint.prepare()
        constraint.accept(token)


def test_only_what_fits_may_come(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """The mask leaves the logits of tokens that fit and refuses all others."""
    constraint = compiler.compile(EXACT).start()
    logits = np.arange(SIZE, dtype=np.float32)
    constraint.mask(logits)
    left = np.flatnonzero(np.isfinite(logits))
    assert {vocabulary.token_bytes[token] for token in left} == {b"y", b"ye", b"yes", b"n", b"no"}
    assert np.array_equal(logits[left], left)
    assert left.tolist() == constraint.allowed().tolist()


def test_an_exhausted_grammar_is_compiled_anew(
    compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    """Once the states of its lexer are too many no copy can be followed, but a new grammar can."""
    source = "start: /(a|b)*a(a|b){16}c/"
    letters = [vocabulary.token_bytes.index(letter) for letter in (b"a", b"b")]
    exhausted = compiler.compile(source)
    text = np.random.default_rng(1).choice(letters, 10_000)
    with pytest.raises(ConstraintFailedError, match="too many states"):
        follow(exhausted.start(), text.tolist())
    with pytest.raises(ConstraintFailedError, match="too many states"):
        follow(exhausted.start(), letters)
    assert compiler.recall(source) is None
    follow(compiler.compile(source).start(), letters)


def test_an_answer_ends_where_it_is_complete(
    compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    """Each token that ends a turn may come exactly where the text is complete."""
    constraint = compiler.compile(LETTERS).start()
    assert not set(ENDS) & set(constraint.allowed())
    constraint.accept(vocabulary.encode_text("a")[0])
    assert constraint.complete
    assert not constraint.finished
    assert set(ENDS) < set(constraint.allowed())
    constraint.accept(ENDS[1])
    assert constraint.finished


def test_it_finishes_without_an_end_token(
    compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    """Where nothing can follow the constraint is finished by itself."""
    constraint = compiler.compile(EXACT).start()
    for token in vocabulary.encode_text("yes"):
        constraint.accept(token)
    assert constraint.finished
    assert set(constraint.allowed()) == set(ENDS)


def test_special_tokens_are_no_text(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """Where any text may come, special tokens other than ends may not."""
    constraint = compiler.compile(r"start: /(?s:.*)/").start()
    special = set(vocabulary.special_tokens.values())
    assert special & set(constraint.allowed()) == set(ENDS)


@pytest.mark.parametrize("name", ["<|im_end|>", "<|endoftext|>", "<|im_start|>", "<repo_name>"])
@pytest.mark.parametrize("place", ["{}", "so {}", "{} so"])
def test_text_that_names_a_special_token_is_text(
    compiler: GrammarCompiler, vocabulary: Vocabulary, name: str, place: str
) -> None:
    """Where it alone can come, it is foretold and comes in tokens of text."""
    text = place.format(name)
    constraint = compiler.compile(f"start: {json.dumps(text)}").start()
    assert constraint.forced() == vocabulary.encode_text(text)
    for token in vocabulary.encode_text(text):
        assert token in constraint.allowed()
        constraint.accept(token)
    assert constraint.finished


def test_choices_go_their_own_ways(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """Choices that share a grammar do not see each other."""
    grammar = compiler.compile(EXACT)
    one, other = grammar.start(), grammar.start()
    one.accept(vocabulary.encode_text("y")[0])
    assert spelled(vocabulary, one) <= {b"e", b"es"}
    assert b"no" in spelled(vocabulary, other)


def test_a_wrong_token_fails_this_constraint_only(
    compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    """A token that does not fit raises, now and from then on; the grammar stays usable."""
    grammar = compiler.compile(EXACT)
    constraint = grammar.start()
    for _ in range(2):
        with pytest.raises(ConstraintFailedError):
            constraint.accept(vocabulary.encode_text("x")[0])
    with pytest.raises(ConstraintFailedError):
        constraint.mask(np.zeros(SIZE, np.float32))
    assert b"yes" in spelled(vocabulary, grammar.start())


def test_a_grammar_that_explodes_later(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """A grammar that becomes too complex on the way raises in bounded time."""
    grammar = compiler.compile(r"start: /(\w+\s*){1,5000}/")
    constraint = grammar.start()
    words = vocabulary.encode_text("some words and more of them " * 40)
    began = time.process_time()
    with pytest.raises(ConstraintFailedError, match="the grammar cannot be followed"):
        follow(constraint, words)
    assert time.process_time() - began < 3


def test_an_ambiguous_grammar_is_refused(compiler: GrammarCompiler) -> None:
    """Where a text can be read in many ways, the work in a row grows with the cube of them."""
    source = r"""start: e
e: e e e | e e | /[ -~]/ | /[ -~]/ /[ -~]/"""
    began = time.process_time()
    with pytest.raises(GrammarError, match="Too many items"):
        compiler.compile(source)
    assert time.process_time() - began < 3


def test_a_long_right_recursive_list(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """A list that people write so may have hundreds of elements."""
    constraint = compiler.compile('start: item | item "," start\nitem: /[a-z]+/').start()
    follow(constraint, vocabulary.encode_text(",".join(["word"] * 300)))
    assert constraint.complete


@pytest.mark.parametrize(
    "source",
    ["", "start: missing", "start: /(/", r"start: /[^\s\S]/", "start: a\na: a", 'start: "x" start'],
)
def test_bad_grammars_are_refused(compiler: GrammarCompiler, source: str) -> None:
    """A grammar that is wrong, empty or endless does not compile, and says why in one line."""
    with pytest.raises(GrammarError, match=r"\A[^\n]+\Z"):
        compiler.compile(source)


def test_grammars_are_remembered(tokenizer_json: str) -> None:
    """The grammars used last are not compiled again; others are forgotten."""
    compiler = GrammarCompiler(tokenizer_json, SIZE, ENDS, most=2)
    first, second = compiler.compile(LETTERS), compiler.compile(EXACT)
    assert compiler.compile(LETTERS) is first
    compiler.compile('start: "third"')
    assert compiler.recall(LETTERS) is first
    assert compiler.recall(EXACT) is None
    assert compiler.compile(EXACT) is not second


def test_memory_for_sources_is_bounded(tokenizer_json: str) -> None:
    """A source that is larger than all the room is compiled and not kept."""
    compiler = GrammarCompiler(tokenizer_json, SIZE, ENDS, most_bytes=len(LETTERS))
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
