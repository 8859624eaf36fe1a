"""Converts text to tokens and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer


class Vocabulary:
    """A byte-level tokenizer: each token that is not special stands for some bytes.

    `size` is that of the model's vocabulary, which may be padded beyond the tokenizer's.
    """

    def __init__(self, tokenizer_json: str, size: int) -> None:
        self.size = size
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._plain = Tokenizer.from_str(tokenizer_json)
        self._plain.encode_special_tokens = True

    @classmethod
    def read(cls, folder: Path, size: int) -> Vocabulary:
        """Reads `tokenizer.json` of a model folder."""
        return cls((folder / "tokenizer.json").read_text(encoding="utf-8"), size)

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """The special tokens, such as the end of a turn, by name."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: id_ for id_, token in added.items() if token.special}

    @cached_property
    def token_bytes(self) -> Sequence[bytes]:
        """The bytes that each token adds to the text, by id; empty for a special token."""
        table = [b""] * self.size
        for token, id_ in self._tokenizer.get_vocab(with_added_tokens=False).items():
            table[id_] = bytes(BYTE_OF[character] for character in token)
        for id_, added in self._tokenizer.get_added_tokens_decoder().items():
            table[id_] = b"" if added.special else added.content.encode()
        return table

    @cached_property
    def is_cuttable(self) -> bool:
        """Whether a text may be cut before a special token, or before a space behind a letter.

        It may not where a token that was added to the vocabulary depends on its neighbors.
        """
        added = self._tokenizer.get_added_tokens_decoder().values()
        return not any(each.lstrip or each.single_word or " " in each.content for each in added)

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

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without the special ones."""
        return b"".join(map(self.token_bytes.__getitem__, tokens)).decode(errors="replace")

    def spell(self, tokens: Iterable[int]) -> str:
        """The text of tokens, the special ones spelled out."""
        return b"".join(map(self._spelled_bytes.__getitem__, tokens)).decode(errors="replace")

    @cached_property
    def _spelled_bytes(self) -> Sequence[bytes]:
        """As `token_bytes`, but with the names of special tokens."""
        table = list(self.token_bytes)
        for name, id_ in self.special_tokens.items():
            table[id_] = name.encode()
        return table


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
