"""Tokenizes texts in pieces, cut where it does not change their tokens.

A long text so takes many short steps, and what two prompts have in common is tokenized once.

Where a text may be cut: a byte-level tokenizer first cuts it at the special tokens, then into words
by a regular expression. In none of those in use (GPT-2's, cl100k's, o200k's and their kin) has a
word a space behind a letter or a digit, nor does it matter for a word what comes before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from rapport.common.fair_threads import Steps
from rapport.service.engine.text.vocabulary import Vocabulary

# Takes some ten milliseconds at most, unless it is one word.
MIN_PIECE_CHARS = 16 << 10
# One word may be as long as a request. A million digits take some seconds, and 300 MB meanwhile.
MAX_QUICK_CHARS = 64 << 10
# Of one piece more in a batch, in characters.
PIECE_COST_CHARS = 32


class Piece(NamedTuple):
    """A part of a text. In a plain one, special tokens that are spelled out are mere text."""

    text: str
    plain: bool


class PieceTokenizer:
    """Tokenizes the pieces of one request; a piece that comes again is not tokenized again."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[Piece, list[int]] = {}

    def tokenize(self, pieces: Iterable[Piece], max_tokens: int) -> Steps[list[int]]:
        """The tokens of the pieces, or of the first of them if those are more than `max_tokens`."""
        tokens: list[int] = []
        for batch in _batches(pieces):
            yield max(len(piece.text) for piece in batch) > MAX_QUICK_CHARS
            self._learn(batch)
            for piece in batch:
                tokens += self._known[piece]
            if len(tokens) > max_tokens:
                break
        return tokens

    def _learn(self, pieces: Iterable[Piece]) -> None:
        for plain in (False, True):
            new = [each for each in pieces if each.plain == plain and each not in self._known]
            texts = [each.text for each in new]
            tokens = self._vocabulary.encode_batch(texts, plain=plain) if texts else ()
            self._known.update(zip(new, tokens, strict=True))


def cut(text: str, *, plain: bool) -> Iterator[Piece]:
    """The pieces of a text that has no special tokens but at its start."""
    start = 0
    while start < len(text):
        end = _word_start(text, start + MIN_PIECE_CHARS)
        yield Piece(text[start:end], plain)
        start = end


def cut_at(text: str, places: Iterable[int]) -> Iterator[Piece]:
    """The pieces of a text that has special tokens at these places."""
    for start, end in pairwise((0, *places, len(text))):
        yield from cut(text[start:end], plain=False)


def _word_start(text: str, start: int) -> int:
    """Where a word surely begins, from `start` on, or the end of the text."""
    space = text.find(" ", start)
    while space > 0 and not text[space - 1].isalnum():
        space = text.find(" ", space + 1)
    return len(text) if space < 0 else space


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces that are tokenized together, as each call of the tokenizer has a cost of its own."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text) + PIECE_COST_CHARS
        if size >= MIN_PIECE_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
