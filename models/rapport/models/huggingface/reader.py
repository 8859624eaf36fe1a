"""Reads Hugging Face folders: config.json, and the tensors of safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rapport.models.decoder.families import FAMILIES
from rapport.models.decoder.source import Source
from rapport.models.errors import CorruptFileError
from rapport.models.huggingface.config import NAMES, architecture_of, keys_of
from rapport.models.huggingface.json_file import JsonFile
from rapport.models.huggingface.names import FREQUENCIES, TensorNames
from rapport.models.huggingface.rope import rope_factors, rope_keys
from rapport.models.huggingface.safetensors_files import StoredTensor, files_of, tensors_in
from rapport.models.weights.matrix import BF16, F16, F32, Matrix
from rapport.models.weights.tensor import TensorInfo

CONFIG = "config.json"
KINDS = {"F32": F32, "F16": F16, "BF16": BF16}
HEAD = "lm_head.weight"
# The weights of their norms are stored less one.
NORMS_LESS_ONE = ("gemma2", "gemma3")
T = TypeVar("T")


class HuggingFaceFolder(Source):
    """The files that `save_pretrained` of transformers writes. Tensors are read on access.

    Raises:
        CorruptFileError: a file is damaged. Also raised on access.
        UnsupportedModelError: it has something that is not supported.
        UnknownModelError: a file is not there.
        OSError: one cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.config = JsonFile(folder / CONFIG)
        self.architecture_name = architecture_of(self.config)
        self.names = TensorNames(FAMILIES[self.architecture_name])
        self._keys = keys_of(self.config, self.architecture_name)
        heads = self.count("attention.head_count")
        head_size = self.count(
            "attention.key_length", max(self.count("embedding_length") // heads, 1)
        )
        context_length = self.count("context_length")
        self._keys |= rope_keys(self.config, self.architecture_name, head_size, context_length)
        self.files = files_of(folder)
        self._stored = self._stored_tensors()
        self._factors = rope_factors(self.config, self._keys.get("rope.dimension_count", head_size))
        self.tensors = {name: self._info(name) for name in self._stored} | {
            name: TensorInfo(name, factors.shape, F32, 0) for name, factors in self._factors.items()
        }

    def _stored_tensors(self) -> dict[str, tuple[str, StoredTensor]]:
        """The name in its file, and the place, of each tensor by its name in GGUF files."""
        tied = self.config.value("tie_word_embeddings", bool)
        stored: dict[str, tuple[str, StoredTensor]] = {}
        for name, tensor in tensors_in(self.files):
            if FREQUENCIES.fullmatch(name) or (tied and name == HEAD):
                continue
            known = self.names.in_gguf(name)
            if known is None:
                plain = f"those of a plain {self.architecture_name} model"
                raise self.unsupported(f"tensor {name}", plain)
            if known in stored:
                raise self.corrupt(f"tensor {name} is also in {stored[known][1].path}")
            stored[known] = name, tensor
        if tied is False and self.names.in_gguf(HEAD) not in stored:
            raise self.corrupt(f"it has no tensor {HEAD}")
        return stored

    def _info(self, name: str) -> TensorInfo:
        original, tensor = self._stored[name]
        if tensor.dtype not in KINDS:
            raise self.unsupported(f"type {tensor.dtype} of tensor {original}", KINDS.keys())
        return TensorInfo(name, tensor.shape, KINDS[tensor.dtype], 0)

    def said(self, key: str, kind: type[T], default: T | None = None) -> T:
        value: Any = self._keys.get(key, default)
        if value is None:
            raise self.config.corrupt(f"it does not say its {self.name_of(key)}")
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            found = type(value).__name__
            raise self.config.corrupt(f"{self.name_of(key)} is {found}, not {kind.__name__}")
        return value

    def name_of(self, key: str) -> str:
        return NAMES.get(key, key)

    def name_of_tensor(self, name: str) -> str:
        return self.names.in_transformers(name)

    def matrix(self, name: str) -> Matrix:
        if name in self._factors:
            return Matrix(F32, self._factors[name].reshape(1, -1))
        tensor = self.tensor(name)
        original, stored = self._stored[name]
        raw = stored.read(original).reshape(tensor.outputs, -1)
        matrix = Matrix(tensor.kind, raw.view(np.uint8) if tensor.kind == BF16 else raw)
        if not matrix.finite:
            raise CorruptFileError(
                f"{stored.path}: tensor {original} has weights that are no finite numbers"
            )
        if self.architecture_name in NORMS_LESS_ONE and name.endswith("norm.weight"):
            return Matrix(F32, matrix.floats() + 1)
        return matrix
