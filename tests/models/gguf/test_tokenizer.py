"""The tokenizer has the file's ids and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.reader import GgufFile, Vocabulary
from rapport.models.gguf.tokenizer import tokenizer_from

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
    vocabulary = GgufFile(tiny_gguf()).vocabulary
    tokenizer = tokenizer_from(vocabulary)
    assert tokenizer.get_vocab_size() == len(vocabulary.tokens)
    for id_, token in enumerate(vocabulary.tokens):
        assert tokenizer.token_to_id(token) == id_


def test_special_tokens_are_the_control_tokens(tiny_gguf: Callable[..., Path]) -> None:
    """Decoding can leave out control tokens and keeps tokens that a user has defined."""
    tokenizer = tokenizer_from(GgufFile(tiny_gguf()).vocabulary)
    ids = tokenizer.encode("the<tool><|im_end|>").ids
    assert [tokenizer.id_to_token(id_) for id_ in ids] == ["the", "<tool>", "<|im_end|>"]
    assert tokenizer.decode(ids) == "the<tool>"


def test_plain_gpt2_keeps_numbers_together() -> None:
    """The gpt-2 pre-tokenizer does not split numbers, so that merges reach across digits."""
    tokens = [*LETTERS, "12"]
    vocabulary = Vocabulary(tokens, [1] * len(tokens), ["1 2"], "gpt-2")
    assert tokenizer_from(vocabulary).encode("12").tokens == ["12"]


def test_unknown_pre_tokenizer_is_named() -> None:
    """A pre-tokenizer that is not known is an error that names it."""
    with pytest.raises(UnsupportedModelError, match="llama-bpe"):
        tokenizer_from(Vocabulary(LETTERS, [1] * 256, [], "llama-bpe"))


def test_merges_must_fit() -> None:
    """Merges of tokens that do not exist are an error of the file."""
    with pytest.raises(CorruptFileError, match="merges"):
        tokenizer_from(Vocabulary(LETTERS, [1] * 256, ["no such"], "gpt-2"))
