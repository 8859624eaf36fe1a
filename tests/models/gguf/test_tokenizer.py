"""The tokenizer has the file's ids and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from rapport.models.errors import CorruptFileError
from rapport.models.gguf.model import GgufModel
from rapport.models.gguf.tokenizer import tokenizer_from
from rapport.models.gguf.vocabulary import SENTENCE_PIECE, Vocabulary

LETTERS = sorted(ByteLevel.alphabet())


@pytest.fixture(scope="module")
def tokenizer(cpu_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(cpu_folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def known_bytes(tokenizer: Tokenizer) -> frozenset[int]:
    """The bytes that the vocabulary has a token for; SmolLM2's lacks a few rare ones."""
    letters = [ByteLevel(add_prefix_space=False).pre_tokenize_str(chr(i))[0][0] for i in range(128)]
    missing = {i for i, letter in enumerate(letters) if tokenizer.token_to_id(letter) is None}
    # Leading bytes of the unassigned planes 4 to 11, and bytes that no text in UTF-8 has.
    missing |= {0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)}
    return frozenset(range(256)) - missing


@given(text=st.text())
@example(text="naïve café — 12345 \r\n\t 東京 👩‍👩‍👧 <|im_start|>user")
@example(text="\U00100000 \U000e0001")
def test_round_trip(tokenizer: Tokenizer, known_bytes: frozenset[int], text: str) -> None:
    """Any Unicode comes back as it went in, less the few bytes that the model has no token for."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    kept = bytes(byte for byte in text.encode() if byte in known_bytes)
    assert tokenizer.decode(ids, skip_special_tokens=False) == kept.decode(errors="replace")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("<|im_start|>user\n", [1, 4093, 198]),
        ("<|im_end|>", [2]),
        ("What is the capital of France?", [1780, 314, 260, 3575, 282, 4649, 47]),
    ],
)
def test_known_ids(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    """Text has the ids that the model was trained on."""
    assert tokenizer.encode(text, add_special_tokens=False).ids == ids


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    """A number is split into its digits."""
    assert len(tokenizer.encode("2024", add_special_tokens=False).ids) == 4


def test_ids_are_those_of_the_file(tiny_gguf: Callable[..., Path]) -> None:
    """Every token has the id that it has in the GGUF file, control tokens and others."""
    vocabulary = GgufModel(tiny_gguf()).vocabulary
    tokenizer = tokenizer_from(vocabulary)
    assert tokenizer.get_vocab_size() == len(vocabulary.tokens)
    for id_, token in enumerate(vocabulary.tokens):
        assert tokenizer.token_to_id(token) == id_


def test_special_tokens_are_the_control_tokens(tiny_gguf: Callable[..., Path]) -> None:
    """Decoding can leave out control tokens and keeps tokens that a user has defined."""
    tokenizer = tokenizer_from(GgufModel(tiny_gguf()).vocabulary)
    ids = tokenizer.encode("the<tool><|im_end|>").ids
    assert [tokenizer.id_to_token(id_) for id_ in ids] == ["the", "<tool>", "<|im_end|>"]
    assert tokenizer.decode(ids) == "the<tool>"


def test_plain_gpt2_keeps_numbers_together() -> None:
    """The gpt-2 pre-tokenizer does not split numbers, so that merges reach across digits."""
    tokens = [*LETTERS, "12"]
    vocabulary = Vocabulary(tokens, [1] * len(tokens), ["1 2"], "gpt-2")
    assert tokenizer_from(vocabulary).encode("12").tokens == ["12"]


def test_merges_must_fit() -> None:
    """Merges of tokens that do not exist are an error of the file."""
    with pytest.raises(CorruptFileError, match="merges"):
        tokenizer_from(Vocabulary(LETTERS, [1] * 256, ["no such"], "gpt-2"))


def test_words_that_are_tokens_are_whole() -> None:
    """Llama 3 takes a word that is a token for that token, though no merges lead to it."""
    tokens = [*LETTERS, "abc"]
    for pre, expected in (("llama-bpe", ["abc"]), ("qwen2", ["a", "b", "c"])):
        vocabulary = Vocabulary(tokens, [1] * len(tokens), [], pre)
        assert tokenizer_from(vocabulary).encode("abc").tokens == expected


PIECES = ["▁", "h", "e", "l", "o", "he", "ll", "hell", "lo", "hello", "▁hello", "el"]


def sentence_piece(pieces: list[str], *, space_prefix: bool = False) -> Vocabulary:
    """Pieces of falling scores, after the special tokens and those for bytes."""
    tokens = ["<unk>", "<s>", "<tool>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    scores = [0.0] * 259 + [-float(place) for place in range(len(pieces))]
    types = [2, 3, 4] + [6] * 256 + [1] * len(pieces)
    return Vocabulary(tokens, types, model=SENTENCE_PIECE, scores=scores, space_prefix=space_prefix)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (PIECES, ["▁hello"]),
        (["h", "e", "l", "el", "he"], ["h", "el"]),
        (["h", "e", "l", "he", "el"], ["he", "l"]),
    ],
)
def test_pieces_of_the_highest_score_merge_first(pieces: list[str], expected: list[str]) -> None:
    text = " hello" if pieces is PIECES else "hel"
    assert tokenizer_from(sentence_piece(pieces)).encode(text).tokens == expected


@given(text=st.text())
@example(text=" hello  東京 é\n<s> <0x41> ▁")
def test_pieces_lose_nothing(text: str) -> None:
    """What no piece has is spelled in bytes."""
    tokenizer = tokenizer_from(sentence_piece(PIECES))
    tokenizer.encode_special_tokens = True
    decoded = tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
    assert decoded == text.replace("▁", " ")


def test_a_space_before_the_text() -> None:
    """Where the file says so, a text begins with a space, which is taken off again."""
    tokenizer = tokenizer_from(sentence_piece(PIECES, space_prefix=True))
    encoding = tokenizer.encode("hello<s>hello")
    assert encoding.tokens == ["▁hello", "<s>", "▁hello"]
    assert tokenizer.decode(encoding.ids[:1]) == "hello"


def test_pieces_are_of_some_length() -> None:
    """All splits of a piece of a million letters would take minutes."""
    with pytest.raises(CorruptFileError, match="token 259 has 1000000 characters, over 512"):
        tokenizer_from(sentence_piece(["a" * 1_000_000]))


def test_pieces_need_all_bytes() -> None:
    vocabulary = sentence_piece(PIECES)
    vocabulary.tokens[3 + 0x41] = "gone"
    with pytest.raises(CorruptFileError, match="no token for byte 65"):
        tokenizer_from(vocabulary)
