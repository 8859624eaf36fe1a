"""A model in a GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from rapport.models.decoder.chat_templates import DEFAULT, TOOL_USE, ChatTemplates
from rapport.models.decoder.model import Model
from rapport.models.decoder.sampling import sampling_defaults
from rapport.models.gguf.reader import GgufFile
from rapport.models.gguf.tokenizer import tokenizer_from
from rapport.models.gguf.vocabulary import (
    begins_with_bos,
    end_tokens,
    read_vocabulary,
    special_tokens,
)
from rapport.models.weights.matrix import Projection

TEMPLATE_KEYS = {
    DEFAULT: "tokenizer.chat_template",
    TOOL_USE: f"tokenizer.chat_template.{TOOL_USE}",
}
# The names of a request's fields, and the keys of the values that are advised for them.
SAMPLING_KEYS = {
    "temperature": "general.sampling.temp",
    "top_p": "general.sampling.top_p",
    "top_k": "general.sampling.top_k",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}


class GgufModel(Model):
    """A model in a GGUF file. `chat_template` replaces those of the file.

    All that the header says is checked at once; weights are checked on access.

    Raises:
        CorruptFileError: the file is damaged. Also raised on access.
        UnsupportedModelError: it has something that is not supported.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, chat_template: str | None = None) -> None:
        self.file = GgufFile(path)
        super().__init__(self.file)
        self.vocabulary = read_vocabulary(self.file, self.architecture.vocab_size)
        if chat_template is None:
            self.chat_templates = self._read_templates()
        else:
            self.chat_templates = ChatTemplates(chat_template)
        self.end_tokens = end_tokens(self.file, self.vocabulary, self.chat_templates)
        tokens = self.vocabulary.tokens
        ids = special_tokens(self.file, self.vocabulary)
        self.special_tokens = {name: tokens[id_] for name, id_ in ids.items()}
        self.begins_with_bos = begins_with_bos(self.file, self.vocabulary)
        advised = {name: key for name, key in SAMPLING_KEYS.items() if self.file.has(key)}
        self.sampling_defaults = sampling_defaults(
            {name: self.file.value(key, object) for name, key in advised.items()}
        )

    def _read_templates(self) -> ChatTemplates:
        stored = {name: key for name, key in TEMPLATE_KEYS.items() if self.file.has(key)}
        templates = {name: self.file.value(key, str) for name, key in stored.items()}
        return ChatTemplates.of(templates, self.file.path)

    def tokenizer(self) -> Tokenizer:
        return tokenizer_from(self.vocabulary)

    def query_or_key(self, name: str, heads: int) -> Projection:
        """The projection to queries or keys, with its outputs in the order of the original model.

        In files of some architectures, llama.cpp has interleaved the two halves of a head that the
        rotation pairs.
        """
        projection = self.projection(name)
        if not self.architecture.family.interleaved:
            return projection
        rows = np.arange(projection.matrix.outputs).reshape(heads, -1, 2)
        order = rows.swapaxes(1, 2).reshape(-1)
        bias = projection.bias
        return Projection(projection.matrix.reordered(order), None if bias is None else bias[order])
