from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteFallback, Fuse
from tokenizers.decoders import Replace as ReplaceBack
from tokenizers.decoders import Sequence as Decoders
from tokenizers.models import BPE
from tokenizers.normalizers import Prepend, Replace
from tokenizers.normalizers import Sequence as Normalizers

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


PIECES = ["<s>", "▁", "▁the", "t", "h", "e", "é", *(f"<0x{byte:02X}>" for byte in range(256))]


def pieces(*, more: Sequence[str] = (), prefix: bool = False) -> Vocabulary:
    """A vocabulary in the way of SentencePiece. `<s>` is special."""
    ids = {token: id_ for id_, token in enumerate((*PIECES, *more))}
    tokenizer = Tokenizer(BPE(vocab=ids, merges=[], byte_fallback=True, fuse_unk=True))
    spaces = Replace(" ", "▁")
    tokenizer.normalizer = Normalizers([Prepend("▁"), spaces]) if prefix else spaces
    tokenizer.decoder = Decoders([ReplaceBack("▁", " "), ByteFallback(), Fuse()])
    tokenizer.add_special_tokens([AddedToken("<s>", normalized=False)])
    return Vocabulary(tokenizer.to_str(), len(ids))


def test_pieces_and_bytes_of_sentence_piece() -> None:
    """A piece's mark is a space, and characters that no piece has are spelled byte by byte."""
    vocabulary = pieces()
    table = dict(zip(PIECES, vocabulary.token_bytes, strict=True))
    assert [table[piece] for piece in ("▁the", "é", "<0xE6>", "<s>")] == [
        *(b" the", "é".encode(), b"\xe6", b"")
    ]
    tokens = vocabulary.encode_text(" thé 東<s>")
    assert vocabulary.decode(tokens) == " thé 東<s>"
    assert vocabulary.spell(vocabulary.encode("<s>the")) == "<s>the"


def test_texts_in_pieces_may_be_cut_where_no_piece_goes_on() -> None:
    """Before a space behind a letter, unless a piece has one inside, or each text gets one."""
    assert pieces().is_cuttable
    assert pieces(more=["▁▁"]).is_cuttable
    assert not pieces(more=["t▁h"]).is_cuttable
    assert not pieces(prefix=True).is_cuttable


@pytest.mark.parametrize("prefix", [True, False])
def test_the_rest_of_a_text_does_not_begin_with_a_space(prefix: bool) -> None:
    """Where texts are begun with a space, what goes on behind a part of one is not."""
    vocabulary = pieces(prefix=prefix)
    assert vocabulary.decode(vocabulary.encode_text("the")) == " the"[not prefix :]
    assert vocabulary.decode(vocabulary.encode_continuation("the<s>")) == "the<s>"


def test_markers_of_calls_are_text_in_answers() -> None:
    """A special token before a call is read by its name, and is one token there; not in prompts."""
    vocabulary = pieces()
    marker = vocabulary.size
    tokenizer = Tokenizer.from_str(vocabulary._tokenizer.to_str())
    tokenizer.add_special_tokens(["[TOOL_CALLS]"])
    vocabulary = Vocabulary(tokenizer.to_str(), marker + 1)
    assert vocabulary.decode([marker]) == "[TOOL_CALLS]"
    assert vocabulary.encode_continuation("the[TOOL_CALLS]the").count(marker) == 1
    assert marker not in vocabulary.encode_text("[TOOL_CALLS]")
    assert "[TOOL_CALLS]" in vocabulary.special_tokens


def test_texts_and_markup_share_one_table(vocabulary: Vocabulary) -> None:
    """The tokens of texts have the same ids, also those that were added to the vocabulary."""
    assert vocabulary._plain.get_vocab() == vocabulary._tokenizer.get_vocab()
