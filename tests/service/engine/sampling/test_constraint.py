from __future__ import annotations

import json
import time

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from rapport.service.engine.errors import ConstraintFailedError
from rapport.service.engine.sampling.constraint import Constraint
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.text.vocabulary import Vocabulary
from tests.service.engine.fake import END, byte_vocabulary
from tests.service.engine.sampling.grammars import ENDS, EXACT, LETTERS, SIZE, follow


def spelled(vocabulary: Vocabulary, constraint: Constraint) -> set[bytes]:
    return {vocabulary.token_bytes[token] for token in constraint.allowed()}


def test_only_what_fits_may_come(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """The mask leaves the logits of tokens that fit and refuses all others."""
    constraint = compiler.compile(EXACT).start()
    logits = np.arange(SIZE, dtype=np.float32)
    constraint.mask(logits)
    left = np.flatnonzero(np.isfinite(logits))
    assert {vocabulary.token_bytes[token] for token in left} == {b"y", b"ye", b"yes", b"n", b"no"}
    assert np.array_equal(logits[left], left)
    assert left.tolist() == constraint.allowed().tolist()


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


def test_added_tokens_that_are_not_special_are_text() -> None:
    """A tag that is one token of the vocabulary comes as that token, as in Qwen's calls."""
    tokenizer = Tokenizer.from_str(byte_vocabulary()._tokenizer.to_str())
    tokenizer.add_tokens([AddedToken("<tag>", normalized=False)])
    size = tokenizer.get_vocab_size()
    compiler = GrammarCompiler(Vocabulary(tokenizer.to_str(), size), [END])
    constraint = compiler.compile('start: "<tag>"').start()
    tag = tokenizer.token_to_id("<tag>")
    assert tag in constraint.allowed()
    assert constraint.forced() == [tag]


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


def test_a_long_right_recursive_list(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """A list that people write so may have hundreds of elements."""
    constraint = compiler.compile('start: item | item "," start\nitem: /[a-z]+/').start()
    follow(constraint, vocabulary.encode_text(",".join(["word"] * 300)))
    assert constraint.complete
