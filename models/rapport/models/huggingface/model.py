"""A model in a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from rapport.models.decoder.model import Model
from rapport.models.huggingface.reader import HuggingFaceFolder
from rapport.models.huggingface.text import FolderText


class HuggingFaceModel(Model):
    """A model in a folder that transformers has written. `chat_template` replaces its own ones.

    Raises:
        CorruptFileError: a file is damaged. Also raised on access.
        UnsupportedModelError: it has something that is not supported.
        UnknownModelError: a file is not there.
        OSError: one cannot be read.
    """

    quantises_floats = True

    def __init__(self, folder: Path, chat_template: str | None = None) -> None:
        super().__init__(HuggingFaceFolder(folder))
        self._text = FolderText(folder, self.architecture.vocab_size, chat_template)
        self.chat_templates = self._text.chat_templates
        self.end_tokens = self._text.end_tokens
        self.special_tokens = self._text.special_tokens
        self.sampling_defaults = self._text.sampling_defaults
        self.begins_with_bos = self._text.begins_with_bos

    def tokenizer(self) -> Tokenizer:
        return self._text.tokenizer
