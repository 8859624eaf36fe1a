"""The kinds of sources that models come in: GGUF files and Hugging Face folders."""

from __future__ import annotations

from pathlib import Path

from rapport.models.cache.fetch import sha256_of
from rapport.models.decoder.model import Model
from rapport.models.gguf.model import GgufModel
from rapport.models.gguf.shards import shards_of
from rapport.models.huggingface import safetensors_files
from rapport.models.huggingface.model import HuggingFaceModel


def open_model(path: Path, chat_template: str | None = None) -> Model:
    """The model in a file or a folder. `chat_template` replaces the one that is there.

    Raises:
        ModelError: it cannot be read, or is not supported.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        return HuggingFaceModel(path, chat_template)
    return GgufModel(path, chat_template)


def place_of(path: Path) -> dict[str, str]:
    """Where a model is, as its model.json tells."""
    return {"folder" if path.is_dir() else "file": str(path.resolve())}


def hash_of(path: Path) -> dict[str, str]:
    """The hash of a model's weights, as its model.json tells.

    Raises:
        ModelError, OSError: a file is not there, or cannot be read.
    """
    if path.is_dir():
        return {"safetensors_sha256": sha256_of(*safetensors_files.files_of(path))}
    return {"gguf_sha256": sha256_of(*shards_of(path))}
