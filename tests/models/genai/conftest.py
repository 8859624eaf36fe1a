"""Folders of onnxruntime-genai, made by its builder with `tools/genai_folders.py`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import orjson
import pytest
from onnx import ModelProto

from rapport.models.genai.config import FILE_NAME

FOLDERS = Path(__file__).with_name("folders")
NAMES = sorted(folder.name for folder in FOLDERS.iterdir())


class Folder:
    """A copy of a folder, to be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def configure(self, place: str, value: Any) -> None:
        """Sets a value of genai_config.json, at a path like "model.decoder.head_size"."""
        config = section = orjson.loads((self.path / FILE_NAME).read_bytes())
        *parents, last = place.split(".")
        for parent in parents:
            section = section[parent]
        section[last] = value
        (self.path / FILE_NAME).write_bytes(orjson.dumps(config))

    def change(self, edit: Callable[[ModelProto], object]) -> None:
        """Edits the graph."""
        model = onnx.load(self.path / "model.onnx", load_external_data=False)
        edit(model)
        (self.path / "model.onnx").write_bytes(model.SerializeToString())


@pytest.fixture
def genai(tmp_path: Path) -> Folder:
    """A folder of the test's own, with 4-bit weights."""
    return Folder(shutil.copytree(FOLDERS / "llama-int4", tmp_path / "tiny-genai"))
