"""Builds a tokenizer from the vocabulary of a GGUF file."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.reader import CONTROL, USER_DEFINED, Vocabulary


def tokenizer_from(vocabulary: Vocabulary) -> Tokenizer:
    """A byte-pair tokenizer with the file's token ids. Control tokens are special tokens.

    Raises:
        CorruptFileError: tokens and merges do not fit together.
        UnsupportedModelError: the pre-tokenizer is not known.
    """
    tokenizer = Tokenizer(_byte_pairs(vocabulary))
    tokenizer.pre_tokenizer = pre_tokenizer(vocabulary.pre)
    tokenizer.decoder = decoders.ByteLevel()
    typed = list(zip(vocabulary.tokens, vocabulary.types, strict=True))
    tokenizer.add_special_tokens([_added(token) for token, type_ in typed if type_ == CONTROL])
    tokenizer.add_tokens([_added(token) for token, type_ in typed if type_ == USER_DEFINED])
    return tokenizer


def _byte_pairs(vocabulary: Vocabulary) -> models.BPE:
    ids = {token: id_ for id_, token in enumerate(vocabulary.tokens)}
    merges = [merge.partition(" ")[::2] for merge in vocabulary.merges]
    try:
        return models.BPE(vocab=ids, merges=merges)
    except Exception as error:  # the library raises nothing narrower
        raise CorruptFileError(f"the merges do not fit the tokens: {error}") from error


def _added(token: str) -> AddedToken:
    # With normalization, text that only looks like a control token would match it.
    return AddedToken(token, normalized=False)


def pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer that `tokenizer.ggml.pre` of a GGUF file names."""
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name == "gpt-2":
        return words
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, words])
    raise UnsupportedModelError(f"pre-tokenizer {name} is not supported; known: gpt-2, smollm")
