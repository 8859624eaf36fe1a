"""A tiny model as it is served on a GPU."""

from __future__ import annotations

from pathlib import Path

from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.progress import silent
from tests.tiny import Tiny, write_tiny


def tiny_folder(root: Path, precision: str = "float16") -> Path:
    """A model folder: two layers, 128 tokens of context, 261 tokens to choose from."""
    folder = root / "tiny"
    gguf = write_tiny(root / "tiny.gguf", Tiny())
    write_folder(Origin("tiny", "tests", gguf, {}), precision, folder, silent)
    return folder
