"""The vocabulary of a GGUF file: tokens, merges, special tokens, and the chat template."""

from __future__ import annotations

from dataclasses import dataclass, field

from rapport.models.decoder.chat_templates import ChatTemplates
from rapport.models.decoder.turn_ends import TEXT_END, TURN_ENDS
from rapport.models.gguf.pre_tokenizers import BPE_PRE_TOKENIZERS
from rapport.models.gguf.reader import GgufFile

BYTE_LEVEL, SENTENCE_PIECE = "gpt2", "llama"  # values of tokenizer.ggml.model
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # token types
# What templates call them, and the keys of their ids.
SPECIAL_TOKENS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}
END_KEYS = (
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, and how a text is made of them.

    Attributes:
        tokens: The tokens, by id.
        types: Their types, by id.
        merges: Pairs of byte-level tokens to merge, by rank, each separated by a space.
        pre: The pre-tokenizer's name, of a byte-level vocabulary.
        model: `BYTE_LEVEL` or `SENTENCE_PIECE`.
        scores: Those of the tokens of a SentencePiece vocabulary, by id: higher ones merge first.
        space_prefix: Whether a text begins with a space, in a SentencePiece vocabulary.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str] = field(default_factory=list)
    pre: str = "gpt-2"
    model: str = BYTE_LEVEL
    scores: list[float] = field(default_factory=list)
    space_prefix: bool = False


def read_vocabulary(file: GgufFile, vocab_size: int) -> Vocabulary:
    """The vocabulary of a file with `vocab_size` embeddings.

    Raises:
        CorruptFileError: the file contradicts itself.
        UnsupportedModelError: the kind of tokenizer or the pre-tokenizer is not known.
    """
    model = file.value("tokenizer.ggml.model", str)
    if model not in (BYTE_LEVEL, SENTENCE_PIECE):
        raise file.unsupported(f"tokenizer {model}", (BYTE_LEVEL, SENTENCE_PIECE))
    tokens = file.values("tokenizer.ggml.tokens", str)
    types = file.values("tokenizer.ggml.token_type", int)
    if len(types) != len(tokens) or len(tokens) > vocab_size:
        sizes = f"{len(types)} types and {vocab_size} embeddings"
        raise file.corrupt(f"{len(tokens)} tokens have {sizes}")
    if len(set(tokens)) != len(tokens):
        raise file.corrupt("a token is there twice")
    if model == BYTE_LEVEL:
        return _byte_level(file, tokens, types)
    return _sentence_piece(file, tokens, types)


def _byte_level(file: GgufFile, tokens: list[str], types: list[int]) -> Vocabulary:
    pre = file.value("tokenizer.ggml.pre", str)
    if pre not in BPE_PRE_TOKENIZERS:
        raise file.unsupported(f"pre-tokenizer {pre}", BPE_PRE_TOKENIZERS.keys())
    return Vocabulary(tokens, types, file.values("tokenizer.ggml.merges", str), pre)


def _sentence_piece(file: GgufFile, tokens: list[str], types: list[int]) -> Vocabulary:
    scores = file.values("tokenizer.ggml.scores", float)
    if len(scores) != len(tokens):
        raise file.corrupt(f"{len(tokens)} tokens have {len(scores)} scores")
    return Vocabulary(
        tokens,
        types,
        model=SENTENCE_PIECE,
        scores=scores,
        space_prefix=file.value("tokenizer.ggml.add_space_prefix", bool, default=True),
    )


def special_tokens(file: GgufFile, vocabulary: Vocabulary) -> dict[str, int]:
    """The ids of the tokens that a template can write by a variable's name."""
    return {
        name: _token_id(file, vocabulary, key)
        for name, key in SPECIAL_TOKENS.items()
        if file.has(key)
    }


def begins_with_bos(file: GgufFile, vocabulary: Vocabulary) -> bool:
    """Whether a prompt begins with the BOS token, also where the template does not write it."""
    pre_tokenizer = BPE_PRE_TOKENIZERS[vocabulary.pre]
    default = vocabulary.model == SENTENCE_PIECE or pre_tokenizer.begins_with_bos
    wanted = file.value("tokenizer.ggml.add_bos_token", bool, default)
    return wanted and file.has(SPECIAL_TOKENS["bos_token"])


def end_tokens(file: GgufFile, vocabulary: Vocabulary, templates: ChatTemplates) -> list[int]:
    """The ids that end a turn.

    They are the file's own, the well-known ones that templates write, and <|endoftext|>.
    """
    file.value(END_KEYS[0], int)
    ends = [_token_id(file, vocabulary, key) for key in END_KEYS if file.has(key)]
    ids = {token: id_ for id_, token in enumerate(vocabulary.tokens)}
    written = [ids[token] for token in TURN_ENDS if templates.write(token) and token in ids]
    ends += [id_ for id_ in written if vocabulary.types[id_] in (CONTROL, USER_DEFINED)]
    if TEXT_END in ids:
        ends.append(ids[TEXT_END])
    return list(dict.fromkeys(ends))


def _token_id(file: GgufFile, vocabulary: Vocabulary, key: str) -> int:
    id_, tokens = file.value(key, int), vocabulary.tokens
    if not 0 <= id_ < len(tokens):
        what = "the end token" if key == END_KEYS[0] else key
        raise file.corrupt(f"{what} {id_} is none of {len(tokens)} tokens")
    return id_
