"""Converts text to tokens and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.normalizers import Prepend
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import Metaspace

SPACE = "▁"  # stands for a space in the tokens of SentencePiece
SPACE_LETTER = "Ġ"  # and this in those of byte-level vocabularies
BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")
SPACE_INSIDE = re.compile(f"[^{SPACE}]{SPACE}")
# Special tokens that models write around calls of tools. In answers they are text.
CALL_MARKERS = ("[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<|tool_call|>", "<tool_call>")


class Vocabulary:
    """A tokenizer each of whose tokens stands for some bytes, unless it is special.

    Special tokens that are markers of calls stand for their names in answers.

    It is byte-level, as GPT-2's, or has pieces as SentencePiece, and tokens for single bytes.
    `size` is that of the model's vocabulary, which may be padded beyond the tokenizer's.
    """

    def __init__(self, tokenizer_json: str, size: int) -> None:
        self.size = size
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._plain = _sharing_model(self._tokenizer)
        self._plain.encode_special_tokens = True

    @classmethod
    def read(cls, folder: Path, size: int) -> Vocabulary:
        """Reads `tokenizer.json` of a model folder."""
        return cls((folder / "tokenizer.json").read_text(encoding="utf-8"), size)

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """The special tokens, such as the end of a turn, by name."""
        return {token.content: id_ for id_, token in self._added.items() if token.special}

    @cached_property
    def token_bytes(self) -> Sequence[bytes]:
        """The bytes that each token adds to an answer, by id; of most special tokens none."""
        table = [b""] * self.size
        bytes_of = _letters_to_bytes if self._is_byte_level else _piece_to_bytes
        for token, id_ in self._tokenizer.get_vocab(with_added_tokens=False).items():
            if id_ not in self._added:
                table[id_] = bytes_of(token)
        for id_, added in self._added.items():
            text = added.content if self._is_byte_level else added.content.replace(SPACE, " ")
            is_text = not added.special or added.content in CALL_MARKERS
            table[id_] = text.encode() if is_text else b""
        return table

    @cached_property
    def _added(self) -> Mapping[int, AddedToken]:
        return self._tokenizer.get_added_tokens_decoder()

    @property
    def _is_byte_level(self) -> bool:
        return isinstance(self._tokenizer.decoder, ByteLevel)

    @cached_property
    def is_cuttable(self) -> bool:
        """Whether a text may be cut before a special token, or before a space behind a letter.

        It may not where a token that was added to the vocabulary depends on its neighbors, where
        texts are begun with a space, or where a piece has a space behind another character.
        """
        added = self._added.values()
        if any(each.lstrip or each.single_word or " " in each.content for each in added):
            return False
        if self._is_byte_level:
            return True
        pieces = self._tokenizer.get_vocab(with_added_tokens=False)
        return not self._begins_with_space and not any(map(SPACE_INSIDE.search, pieces))

    @cached_property
    def _begins_with_space(self) -> bool:
        """Whether a text that does not begin with a space gets one."""
        pieces = [self._tokenizer.id_to_token(token) or "" for token in self.encode_text("a")]
        return bool(pieces) and pieces[0].startswith((SPACE, SPACE_LETTER))

    def encode(self, text: str) -> list[int]:
        """Encodes a text; the names of special tokens in it become special tokens."""
        return self.encode_batch([text], plain=False)[0]

    def encode_text(self, text: str) -> list[int]:
        """Encodes a text; none of the tokens is special, whatever the text says."""
        return self.encode_batch([text], plain=True)[0]

    def encode_batch(self, texts: Sequence[str], *, plain: bool) -> list[list[int]]:
        """Encodes several texts, as `encode_text` if `plain`, else as `encode`."""
        tokenizer = self._plain if plain else self._tokenizer
        # Encoding a batch releases the GIL, which encoding a single text does not.
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]

    def encode_continuation(self, text: str) -> list[int]:
        """Encodes the rest of an answer, as `encode_text`, but does not begin it with a space.

        Markers of calls are the tokens that models write. This holds the GIL.
        """
        tokens: list[int] = []
        for part in self._marker.split(text):
            if part in self._special_markers:
                tokens.append(self._special_markers[part])
            elif part:
                tokens += self._continuing.encode(part, add_special_tokens=False).ids
        return tokens

    @cached_property
    def _special_markers(self) -> Mapping[str, int]:
        return {name: id_ for name, id_ in self.special_tokens.items() if name in CALL_MARKERS}

    @cached_property
    def _marker(self) -> re.Pattern[str]:
        return re.compile(f"({'|'.join(map(re.escape, self._special_markers)) or '(?!)'})")

    @cached_property
    def _continuing(self) -> Tokenizer:
        if not self._begins_with_space:
            return self._plain
        tokenizer = _sharing_model(self._plain)
        _remove_prefix(tokenizer)
        tokenizer.encode_special_tokens = True
        return tokenizer

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without the special ones."""
        return b"".join(map(self.token_bytes.__getitem__, tokens)).decode(errors="replace")

    def spell(self, tokens: Iterable[int]) -> str:
        """The text of tokens, the special ones spelled out."""
        return b"".join(map(self.spelled_bytes.__getitem__, tokens)).decode(errors="replace")

    @cached_property
    def spelled_bytes(self) -> Sequence[bytes]:
        """As `token_bytes`, but with the names of special tokens."""
        table = list(self.token_bytes)
        for name, id_ in self.special_tokens.items():
            table[id_] = name.encode()
        return table


def _sharing_model(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer like another one, without a copy of its tokens and merges."""
    other = Tokenizer(tokenizer.model)
    other.normalizer = tokenizer.normalizer
    other.pre_tokenizer = tokenizer.pre_tokenizer
    other.decoder = tokenizer.decoder
    # Those that the model lacks are numbered in turn.
    added = [token for _, token in sorted(tokenizer.get_added_tokens_decoder().items())]
    for special, tokens in groupby(added, key=lambda token: token.special):
        (other.add_special_tokens if special else other.add_tokens)(list(tokens))
    return other


def _remove_prefix(tokenizer: Tokenizer) -> None:
    """Removes what begins a text with a space."""
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    if isinstance(normalizer, Normalizers):
        parts = [normalizer[place] for place in range(len(normalizer))]
        tokenizer.normalizer = Normalizers([p for p in parts if not isinstance(p, Prepend)])
    if isinstance(pre_tokenizer, Metaspace):
        tokenizer.pre_tokenizer = Metaspace(prepend_scheme="never", split=pre_tokenizer.split)


def _byte_alphabet() -> dict[str, int]:
    """The byte that each character stands for in a byte-level vocabulary.

    Source: `bytes_to_unicode` of GPT-2's encoder.py. Printable bytes stand for
    themselves; the others are moved, in order, to U+0100 and on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    moved = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(moved)}


BYTE_OF = _byte_alphabet()
# The characters of Latin-1 have the numbers of bytes.
LATIN_1_OF = str.maketrans(BYTE_OF)


def _letters_to_bytes(token: str) -> bytes:
    return token.translate(LATIN_1_OF).encode("latin-1")


def _piece_to_bytes(token: str) -> bytes:
    if byte := BYTE_TOKEN.fullmatch(token):
        return bytes.fromhex(byte[1])
    return token.replace(SPACE, " ").encode()
