from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from rapport.service.engine.text.vocabulary import Vocabulary

SIZE = 49152


@pytest.fixture(scope="module")
def vocabulary(cpu_folder: Path) -> Vocabulary:
    return Vocabulary.read(cpu_folder, SIZE)


@pytest.fixture(scope="module")
def reference(cpu_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(cpu_folder / "tokenizer.json"))


# The model's vocabulary has no token for six control characters, nor for the first bytes of
# characters from U+40000 to U+BFFFF, none of which is assigned. Its tokenizers drop them.
spoken = st.characters(exclude_characters="\x04\x06\x13\x14\x16\x1d", codec="utf-8").filter(
    lambda character: not 0x40000 <= ord(character) <= 0xBFFFF
)


@given(text=st.text(spoken))
def test_any_text_survives(vocabulary: Vocabulary, text: str) -> None:
    """Arbitrary Unicode goes to tokens and comes back."""
    assert vocabulary.decode(vocabulary.encode_text(text)) == text


@given(tokens=st.lists(st.integers(0, SIZE - 1), max_size=30))
def test_any_tokens_decode_as_the_tokenizer_does(
    vocabulary: Vocabulary, reference: Tokenizer, tokens: list[int]
) -> None:
    """The table of token bytes agrees with the reference decoder, also on broken characters."""
    assert vocabulary.decode(tokens) == reference.decode(tokens)


def test_special_tokens_are_special_only_where_allowed(vocabulary: Vocabulary) -> None:
    """Markup becomes a special token in a template's text and never in a user's."""
    assert vocabulary.special_tokens["<|im_end|>"] == 2
    assert vocabulary.encode("<|im_end|>") == [2]
    plain = vocabulary.encode_text("<|im_end|>")
    assert not set(plain) & set(vocabulary.special_tokens.values())
    assert vocabulary.decode(plain) == "<|im_end|>"
