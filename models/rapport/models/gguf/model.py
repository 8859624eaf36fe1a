"""A model in a GGUF file: what it computes, its layers, and its vocabulary."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from rapport.models.errors import UnsupportedModelError
from rapport.models.gguf.architecture import read_architecture
from rapport.models.gguf.reader import GgufFile
from rapport.models.gguf.vocabulary import (
    Vocabulary,
    begins_with_bos,
    end_tokens,
    read_vocabulary,
    special_tokens,
)
from rapport.models.gguf.weights import Projection

TEMPLATE_KEY = "tokenizer.chat_template"


class GgufModel:
    """A model that the graph can compute. `chat_template` replaces the file's.

    All that the header says is checked at once; weights are checked on access.

    Raises:
        CorruptFileError: the file is damaged. Also raised on access.
        UnsupportedModelError: it has something that is not supported.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, chat_template: str | None = None) -> None:
        self.file = GgufFile(path)
        self.architecture = read_architecture(self.file)
        self.vocabulary: Vocabulary = read_vocabulary(self.file, self.architecture.vocab_size)
        self.chat_template = self._template if chat_template is None else chat_template
        self.end_tokens = end_tokens(self.file, self.vocabulary, self.chat_template)
        self.special_tokens = special_tokens(self.file, self.vocabulary)
        self.begins_with_bos = begins_with_bos(self.file, self.vocabulary)

    @cached_property
    def _template(self) -> str:
        if not self.file.has(TEMPLATE_KEY):
            raise UnsupportedModelError(
                f"{self.file.path} has no chat template, as base models do not: "
                "give one with --chat-template FILE"
            )
        return self.file.value(TEMPLATE_KEY, str)

    def projection(self, name: str) -> Projection:
        """The linear layer of this name, with its bias if it has one."""
        bias = f"{name}.bias"
        return Projection(
            self.file.matrix(f"{name}.weight"),
            self.file.vector(bias) if bias in self.file.tensors else None,
        )

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
