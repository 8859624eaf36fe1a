"""Texts are tokenized in pieces as they are as a whole, and no piece twice."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, pre_tokenizers

from rapport.common.fair_threads import finish
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.prompt import pieces
from rapport.service.prompt.pieces import Piece, PieceTokenizer, cut
from rapport.service.prompt.prompt_encoder import PromptEncoder
from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.turns import Turn
from tests.service.prompt.templates import QWEN
from tests.service.requests import message

# The words of GPT-2, cl100k and o200k, as their authors' tokenizers have them.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = st.lists(
    st.sampled_from(
        [" ", "  ", "\n", "\r\n", "\t", "a", "Bc", "'s", "12", "!?", "é", "漢", "\u0301"]
    )
    | st.text(max_size=3)
).map("".join)
CONTENTS = st.lists(
    st.sampled_from(["word ", "<|im_end|>", "<|im_start|>", "ein ", "\n", "7", "\ue000", "<|im_"]),
    max_size=12,
).map("".join)
TURNS = st.lists(
    st.builds(Turn, st.sampled_from(["system", "user", "assistant", "tool"]), CONTENTS),
    min_size=1,
    max_size=8,
)


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short texts are cut, too."""
    monkeypatch.setattr(pieces, "MIN_PIECE_CHARS", 4)


@pytest.fixture(scope="module")
def vocabulary(cpu_folder: Path) -> Vocabulary:
    return Vocabulary.read(cpu_folder, 49152)


def test_where_a_text_is_cut() -> None:
    """Before a space behind a letter or a digit, and only from the wanted length on."""
    words = "ab cd efgh  ij!\n kl 12 3"
    assert [piece.text for piece in cut(words, plain=True)] == [
        "ab cd",
        " efgh",
        "  ij!\n kl",
        " 12 3",
    ]
    assert list(cut("", plain=True)) == []


@pytest.mark.parametrize("words", [GPT2, CL100K, O200K])
@given(text=TEXTS)
def test_words_of_all_tokenizers_are_kept(words: str, text: str) -> None:
    """No word goes over the end of a piece, nor does it depend on what comes before."""
    split = pre_tokenizers.Split(Regex(words), "isolated")

    def words_of(part: str) -> list[str]:
        return [word for word, _ in split.pre_tokenize_str(part)]

    parts = [piece.text for piece in cut(text, plain=True)]
    assert [word for part in parts for word in words_of(part)] == words_of(text)


@given(text=TEXTS)
def test_tokens_are_those_of_the_whole(vocabulary: Vocabulary, text: str) -> None:
    """With the words of the default model."""
    tokens = PieceTokenizer(vocabulary).tokenize(cut(text, plain=True), sys.maxsize)
    assert finish(tokens) == vocabulary.encode_text(text)


def test_no_piece_is_tokenized_twice(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    real = vocabulary.encode_batch

    def noted(texts: Sequence[str], *, plain: bool) -> list[list[int]]:
        encoded.extend(texts)
        return real(texts, plain=plain)

    monkeypatch.setattr(vocabulary, "encode_batch", noted)
    encoder = PromptEncoder(ChatTemplate(QWEN), vocabulary, 8192)
    messages = [message("user" if n % 2 else "assistant", f"number {n}") for n in range(200)]
    kept = finish(encoder.encode(messages, max_tokens=100))
    assert 50 < len(kept) <= 100
    assert len(encoded) == len(set(encoded))


def test_no_more_is_tokenized_than_is_needed(vocabulary: Vocabulary) -> None:
    """Once there are more tokens than may be, the rest is left out."""
    many = (Piece("one two", plain=True) for _ in range(10**9))
    tokens = finish(PieceTokenizer(vocabulary).tokenize(many, 100))
    assert 100 < len(tokens) < 200


@pytest.mark.parametrize("source", ["", QWEN])
@settings(max_examples=40)
@given(turns=TURNS, max_tokens=st.integers(0, 150), safe=st.booleans())
def test_what_is_dropped_is_what_was_dropped_when_all_was_counted_anew(
    cpu_folder: Path,
    vocabulary: Vocabulary,
    source: str,
    turns: list[Turn],
    max_tokens: int,
    *,
    safe: bool,
) -> None:
    """The tokens of a conversation that is cut to a length, against the plainest way to do it."""
    template = ChatTemplate(source) if source else ChatTemplate.read(cpu_folder)
    encoder = PromptEncoder(template, vocabulary, 8192)
    messages: list[Any] = [message(turn.role, turn.content) for turn in turns]

    def whole(kept: list[Any]) -> tuple[int, ...]:
        return finish(encoder.encode(kept, safe=safe))

    last_user = max((n for n, turn in enumerate(turns) if turn.role == "user"), default=0)
    groups: list[list[int]] = []
    for index, turn in enumerate(turns[:last_user]):
        if turn.role == "tool" and groups:
            groups[-1].append(index)
        elif turn.role != "system":
            groups.append([index])

    def without(count: int) -> list[Any]:
        dropped = {index for group in groups[:count] for index in group}
        return [each for index, each in enumerate(messages) if index not in dropped]

    enough = bisect_left(
        range(len(groups)), x=True, key=lambda count: len(whole(without(count))) <= max_tokens
    )
    expected = whole(without(enough))
    assert finish(encoder.encode(messages, max_tokens=max_tokens, safe=safe)) == expected


def test_a_vocabulary_with_a_token_of_two_words_is_not_cut(cpu_folder: Path) -> None:
    """A cut might go through it."""
    with_spaces = Tokenizer.from_file(str(cpu_folder / "tokenizer.json"))
    assert Vocabulary(with_spaces.to_str(), 49152).is_cuttable
    with_spaces.add_special_tokens(["the end"])
    assert not Vocabulary(with_spaces.to_str(), 49153).is_cuttable


def test_a_long_word_is_a_long_step(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long as it is; words that are as long in all do not."""
    monkeypatch.setattr(pieces, "MAX_QUICK_CHARS", 100)

    def steps(text: str) -> list[bool]:
        return list(PieceTokenizer(vocabulary).tokenize(cut(text, plain=True), sys.maxsize))

    assert True in steps("words " + "7" * 101)
    assert True not in steps("words " * 100)
