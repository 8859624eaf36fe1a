"""A vocabulary of SentencePiece becomes a tokenizer with its ids, its scores and its prefix."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.huggingface.sentence_piece import read_pieces
from rapport.models.huggingface.text import FolderText

# As of tests/models/tiny.py: pieces with lower scores merge later.
PIECES = ("▁", "t", "h", "e", "th", "the", "▁the")
UNKNOWN, CONTROL, BYTE = 2, 3, 6
TOKENS = [
    *(("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)),
    *((f"<0x{byte:02X}>", BYTE) for byte in range(256)),
    *((piece, None) for piece in PIECES),
]
COUNT = len(TOKENS)


def field(number: int, content: bytes) -> bytes:
    """A field of bytes in the wire format of protobuf."""
    length = len(content)
    head = bytes([length & 0x7F | 0x80, length >> 7]) if length > 0x7F else bytes([length])
    return bytes([number << 3 | 2]) + head + content


def encoded(
    tokens: Sequence[tuple[str, int | None]] = TOKENS,
    trainer: bytes = b"\x18\x02\x98\x02\x01",  # BPE, with tokens for bytes
    normalizer: bytes = b"",
) -> bytes:
    parts = []
    for place, (token, type_) in enumerate(tokens):
        piece = field(1, token.encode()) + b"\x15" + struct.pack("<f", -float(place))
        parts.append(field(1, piece + (b"" if type_ is None else bytes([0x18, type_]))))
    return b"".join(parts) + field(2, trainer) + field(3, normalizer)


@pytest.fixture
def pieces(tiny_folder: Callable[..., Path]) -> Callable[..., Path]:
    """Write a folder with tokenizer.model in place of tokenizer.json."""

    def write(content: bytes, added: Mapping[str, Any] | None = None) -> Path:
        folder = tiny_folder()
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer.model").write_bytes(content)
        (folder / "added_tokens.json").write_text(json.dumps(added or {}))
        about = {"bos_token": "<s>", "eos_token": "</s>"}
        plain = {"added_tokens_decoder": {"267": {"content": "<tool>", "special": False}}}
        (folder / "tokenizer_config.json").write_text(json.dumps(about | plain))
        return folder

    return write


def test_pieces_are_merged_by_score(pieces: Callable[..., Path]) -> None:
    """A text begins with a space, a prompt with BOS, and what no piece has is in bytes."""
    text = FolderText(pieces(encoded(), {"<tool>": COUNT + 1, "<end>": COUNT}), 300)
    ids = text.tokenizer.encode("the té<end>", add_special_tokens=False).ids
    expected = ["▁the", "▁", "t", "<0xC3>", "<0xA9>", "<end>"]
    assert [text.tokenizer.id_to_token(id_) for id_ in ids] == expected
    assert text.tokenizer.decode(ids) == "the té"  # <end> is special
    assert text.tokenizer.decode([COUNT + 1]) == "<tool>"
    assert text.begins_with_bos
    assert text.end_tokens[-1] == 2


def test_a_text_may_begin_without_a_space(pieces: Callable[..., Path]) -> None:
    folder = pieces(encoded(normalizer=b"\x18\x00"))
    ids = FolderText(folder, 300).tokenizer.encode("the", add_special_tokens=False).ids
    assert ids == [COUNT - 2]


@pytest.mark.parametrize(
    ("content", "added", "error", "reason"),
    [
        (b"\xff\xff", {}, CorruptFileError, "no model of SentencePiece"),
        (encoded()[:-4], {}, CorruptFileError, "no model of SentencePiece"),
        (encoded(trainer=b"\x18\x01"), {}, UnsupportedModelError, "model_type 1 is not supported"),
        (encoded(trainer=b""), {}, UnsupportedModelError, "model_type 1 is not supported"),
        (encoded(trainer=b"\x18\x02"), {}, UnsupportedModelError, "known: 2 .* with byte_fallback"),
        (encoded([*TOKENS, ("t", None)]), {}, CorruptFileError, "a token is there twice"),
        (encoded(TOKENS[:200]), {}, CorruptFileError, "no token for byte"),
        (encoded(), {"<a>": COUNT + 1}, CorruptFileError, "ids of added tokens are not those"),
        (encoded(), {"<a>": [7]}, CorruptFileError, "ids of added tokens are not those"),
    ],
)
def test_what_cannot_be_is_named(
    pieces: Callable[..., Path],
    content: bytes,
    added: dict[str, Any],
    error: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(error, match=reason):
        FolderText(pieces(content, added), 300)


def test_tokens_have_embeddings(pieces: Callable[..., Path]) -> None:
    with pytest.raises(CorruptFileError, match=f"{COUNT} tokens have {COUNT - 1} embeddings"):
        FolderText(pieces(encoded()), COUNT - 1)


def test_every_cut_is_an_error(tmp_path: Path) -> None:
    """Wherever the file ends too early, it is damaged or says less than it must."""
    path, content = tmp_path / "tokenizer.model", encoded()
    for end in range(0, len(content) - 6, 101):
        path.write_bytes(content[:end])
        with pytest.raises((CorruptFileError, UnsupportedModelError)):
            read_pieces(path, {})


def test_a_file_too_large_for_pieces_is_not_parsed(pieces: Callable[..., Path]) -> None:
    folder = pieces(b"\x0a\x00" * 10)
    os.truncate(folder / "tokenizer.model", (1 << 24) + 1)
    with pytest.raises(CorruptFileError, match="it has 16777217 bytes, over 16777216"):
        FolderText(folder, 300)
