"""Builds a tokenizer from the vocabulary of a GGUF file."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from rapport.models.errors import CorruptFileError
from rapport.models.gguf.pre_tokenizers import BPE_PRE_TOKENIZERS
from rapport.models.gguf.vocabulary import (
    BYTE_LEVEL,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
)

# Those of Gemma have 16. Each way to split a piece in two is tried.
MAX_PIECE_CHARS = 512
SPACE = "▁"  # stands for a space in the tokens of SentencePiece


def tokenizer_from(vocabulary: Vocabulary) -> Tokenizer:
    """A byte-pair tokenizer with the file's token ids. Control tokens are special tokens.

    Raises:
        CorruptFileError: tokens and merges do not fit together.
    """
    build = _byte_level if vocabulary.model == BYTE_LEVEL else _sentence_piece
    tokenizer = build(vocabulary)
    typed = list(zip(vocabulary.tokens, vocabulary.types, strict=True))
    special = [_added(token) for token, type_ in typed if type_ in (CONTROL, UNKNOWN)]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([_added(token) for token, type_ in typed if type_ == USER_DEFINED])
    return tokenizer


def _added(token: str) -> AddedToken:
    # With normalization, text that only looks like a control token would match it.
    return AddedToken(token, normalized=False)


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    return {token: id_ for id_, token in enumerate(vocabulary.tokens)}


def _byte_level(vocabulary: Vocabulary) -> Tokenizer:
    """The tokens of GPT-2's kind, in which each byte has a letter."""
    pre_tokenizer = BPE_PRE_TOKENIZERS[vocabulary.pre]
    merges = [merge.partition(" ")[::2] for merge in vocabulary.merges]
    try:
        model = models.BPE(
            vocab=_ids(vocabulary), merges=merges, ignore_merges=pre_tokenizer.whole_words
        )
    except Exception as error:  # the library raises nothing narrower
        raise CorruptFileError(f"the merges do not fit the tokens: {error}") from error
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer.build()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_piece(vocabulary: Vocabulary) -> Tokenizer:
    """Pieces of SentencePiece, and bytes for what no piece has.

    SentencePiece joins the two neighbors that make the piece of the highest score. So each way to
    split a piece in two is a merge, ranked by the score of the whole.

    Raises:
        CorruptFileError: it lacks a byte, or has a piece that is too long.
    """
    ids = _ids(vocabulary)
    if missing := [byte for byte in range(256) if f"<0x{byte:02X}>" not in ids]:
        raise CorruptFileError(f"the vocabulary has no token for byte {missing[0]}")
    ranked = sorted(_splits(vocabulary, ids))
    merges = [(vocabulary.tokens[left], vocabulary.tokens[right]) for _, left, right in ranked]
    unknown = next(
        (token for token, type_ in zip(ids, vocabulary.types, strict=True) if type_ == UNKNOWN),
        None,
    )
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=merges, unk_token=unknown, byte_fallback=True, fuse_unk=True)
    )
    spaces = normalizers.Replace(" ", SPACE)
    prefixed = normalizers.Sequence([normalizers.Prepend(SPACE), spaces])
    tokenizer.normalizer = prefixed if vocabulary.space_prefix else spaces
    decoding = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.space_prefix:
        decoding.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(decoding)
    return tokenizer


def _splits(vocabulary: Vocabulary, ids: dict[str, int]) -> Iterator[tuple[float, int, int]]:
    """Every split of a piece into two tokens: the negative score, and the ids of the two."""
    for token, id_ in ids.items():
        if vocabulary.types[id_] != NORMAL:
            continue
        if len(token) > MAX_PIECE_CHARS:
            raise CorruptFileError(
                f"token {id_} has {len(token)} characters, over {MAX_PIECE_CHARS}"
            )
        for place in range(1, len(token)):
            left, right = ids.get(token[:place]), ids.get(token[place:])
            if left is not None and right is not None:
                yield -vocabulary.scores[id_], left, right
