"""How a model in a folder reads and ends a turn: its tokenizer, template and special tokens.

The files are those that `save_pretrained` of transformers writes beside a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from rapport.models.decoder.chat_templates import ChatTemplates
from rapport.models.decoder.sampling import sampling_defaults
from rapport.models.decoder.turn_ends import TEXT_END, TURN_ENDS
from rapport.models.errors import CorruptFileError, UnknownModelError, UnsupportedModelError
from rapport.models.gguf.tokenizer import tokenizer_from
from rapport.models.huggingface.json_file import JsonFile
from rapport.models.huggingface.sentence_piece import read_pieces
from rapport.models.huggingface.templates import TEMPLATE_FILES, checked, read_templates

TOKENIZER, SENTENCE_PIECE = "tokenizer.json", "tokenizer.model"
TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP = "tokenizer_config.json", "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
GENERATION_CONFIG, CONFIG = "generation_config.json", "config.json"
# Of a vocabulary of 262,144 tokens it takes 33 MB.
MAX_TOKENIZER_BYTES = 1 << 28
# Of such a vocabulary it takes 4 MB. Parsed, a file may take thirty times its size.
MAX_PIECES_BYTES = 1 << 24
FILES = (
    *(TOKENIZER, SENTENCE_PIECE, TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, ADDED_TOKENS),
    *(GENERATION_CONFIG, CONFIG),
    *TEMPLATE_FILES.values(),
)
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


class FolderText:
    """The tokenizer and the template of a model with `vocab_size` embeddings.

    `chat_template` replaces those of the folder. `ends` are ids that end a turn by other files.

    Attributes:
        tokenizer: That of the folder, without truncation and padding.
        chat_templates: Jinja templates that make a prompt of messages.
        special_tokens: Tokens that a template can write, by the names of variables.
        end_tokens: The ids that end a turn.
        sampling_defaults: The sampling values that generation_config.json advises.
        begins_with_bos: Whether a prompt begins with BOS, also where the template does not write
            it.

    Raises:
        CorruptFileError: a file is damaged, or they contradict each other.
        UnsupportedModelError: the kind of tokenizer is not known, or there is no template.
        UnknownModelError: there is no tokenizer.
        OSError: a file cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        vocab_size: int,
        chat_template: str | None = None,
        ends: Sequence[int] = (),
    ) -> None:
        self.folder = folder
        self._config = self._optional(TOKENIZER_CONFIG)
        if chat_template is None:
            self.chat_templates = read_templates(folder, self._config)
        else:
            self.chat_templates = ChatTemplates(chat_template)
        self.tokenizer = self._read_tokenizer(vocab_size)
        self.special_tokens = {
            name: token
            for name in SPECIAL_TOKENS
            if (token := self._special(name)) and self.tokenizer.token_to_id(token) is not None
        }
        self.end_tokens = self._end_tokens(vocab_size, ends)
        self.begins_with_bos = self._begins_with_bos()
        advice = self._optional(GENERATION_CONFIG)
        self.sampling_defaults = sampling_defaults({} if advice is None else advice.values)

    def _optional(self, name: str) -> JsonFile | None:
        return JsonFile(self.folder / name) if (self.folder / name).is_file() else None

    def _read_tokenizer(self, vocab_size: int) -> Tokenizer:
        path = self.folder / TOKENIZER
        pieces = self.folder / SENTENCE_PIECE
        if not path.is_file() and pieces.is_file():
            return self._of_pieces(checked(pieces, MAX_PIECES_BYTES), vocab_size)
        if not path.is_file():
            raise UnknownModelError(f"there is no file {path}")
        content = checked(path, MAX_TOKENIZER_BYTES).read_bytes()
        _check_kind(path, content)
        try:
            tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing narrower
            raise CorruptFileError(f"{path} is no tokenizer: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        highest = max(tokenizer.get_vocab().values(), default=-1)
        if highest >= vocab_size:
            raise CorruptFileError(f"{path}: token {highest} is none of {vocab_size} embeddings")
        return tokenizer

    def _of_pieces(self, path: Path, vocab_size: int) -> Tokenizer:
        """The tokenizer of SentencePiece's file, with the tokens that were added to it."""
        added = self._optional(ADDED_TOKENS)
        vocabulary = read_pieces(path, {} if added is None else added.values, self._plain_tokens())
        if (count := len(vocabulary.tokens)) > vocab_size:
            raise CorruptFileError(f"{path}: {count} tokens have {vocab_size} embeddings")
        return tokenizer_from(vocabulary)

    def _plain_tokens(self) -> set[str]:
        """The added tokens that are not special, as the configuration says."""
        stated = None if self._config is None else self._config.value("added_tokens_decoder", dict)
        tokens = [each for each in (stated or {}).values() if isinstance(each, dict)]
        return {str(each.get("content")) for each in tokens if each.get("special") is False}

    def _special(self, name: str) -> str | None:
        """A special token, which files spell as a text or as an object."""
        for file in (self._config, self._optional(SPECIAL_TOKENS_MAP)):
            token = None if file is None else file.values.get(name)
            if isinstance(token, dict):
                token = token.get("content")
            if isinstance(token, str):
                return token
        return None

    def _end_tokens(self, vocab_size: int, ends: Sequence[int]) -> list[int]:
        added = {token.content for token in self.tokenizer.get_added_tokens_decoder().values()}
        known = [end for end in TURN_ENDS if end in added and self.chat_templates.write(end)]
        names = [self.special_tokens.get("eos_token"), *known, TEXT_END]
        ids = [self.tokenizer.token_to_id(name) for name in names if name is not None]
        ends = [*ends, *self._stated_ends(vocab_size), *(id_ for id_ in ids if id_ is not None)]
        if not ends:
            raise CorruptFileError(f"{self.folder} does not say which token ends a turn")
        return list(dict.fromkeys(ends))

    def _stated_ends(self, vocab_size: int) -> Iterator[int]:
        """The ids that the configurations name, one or a list of them in each."""
        for file in map(self._optional, (GENERATION_CONFIG, CONFIG)):
            stated = None if file is None else file.values.get("eos_token_id")
            for id_ in stated if isinstance(stated, list) else [stated]:
                if file is None or id_ is None:
                    continue
                if type(id_) is not int or not 0 <= id_ < vocab_size:
                    raise file.corrupt(f"eos_token_id {id_} is none of {vocab_size} tokens")
                yield id_

    def _begins_with_bos(self) -> bool:
        if "bos_token" not in self.special_tokens:
            return False
        stated = None if self._config is None else self._config.value("add_bos_token", bool)
        if stated is not None or not (self.folder / TOKENIZER).is_file():
            return stated is not False  # SentencePiece's begin with it by default
        bos = self.tokenizer.token_to_id(self.special_tokens["bos_token"])
        return self.tokenizer.encode("a").ids[:1] == [bos]


def _check_kind(path: Path, content: bytes) -> None:
    """Checks that each token stands for bytes: as in GPT-2's, or with tokens for single bytes.

    The library also has others, and ends the process where a file is no tokenizer at all.
    """
    try:
        strange = _strange_part(orjson.loads(content))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{path} is no tokenizer: {error}") from error
    if strange:
        known = "BPE of bytes, or BPE with byte_fallback"
        raise UnsupportedModelError(f"{path}: {strange} is not supported; known: {known}")


def _strange_part(parts: dict[str, Any]) -> str | None:
    """What of a tokenizer cannot be served, if anything."""
    model, decoder = parts["model"], parts["decoder"]["type"]
    if (kind := model.get("type", "BPE")) != "BPE":
        return f"model {kind}"
    tokens = model["vocab"].keys()
    if decoder != "ByteLevel":
        return None if model.get("byte_fallback") else f"decoder {decoder}"
    alphabet = set(ByteLevel.alphabet())
    added = {each["content"] for each in parts.get("added_tokens") or []}
    letters = (token for token in tokens - added if not alphabet.issuperset(token))
    strange = next(letters, None)
    return None if strange is None else f"token {strange!r}"
