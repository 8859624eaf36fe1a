"""Reads GGUF files: their keys, checked, and their tensors, mapped into memory."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from rapport.models.decoder.source import Source
from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.header import Header, read_header
from rapport.models.gguf.shards import shards_of
from rapport.models.weights.blocks import Bytes
from rapport.models.weights.matrix import F16, F32, Matrix
from rapport.models.weights.tensor import TensorInfo

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the files of a model, mapped into memory."""

    path: Path
    mapped: mmap.mmap | bytes
    data: memoryview
    header: Header

    @classmethod
    def read(cls, path: Path) -> _Part:
        mapped = _mapped(path)
        data = memoryview(mapped)
        try:
            header = read_header(data)
        except CorruptFileError as error:
            raise CorruptFileError(f"{path} is not a readable GGUF file: {error}") from error
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{path}: {error}") from error
        size = max((each.offset + each.size_bytes for each in header.tensors.values()), default=0)
        missing = header.data_start + size - len(data)
        if header.tensors and missing > 0:
            raise CorruptFileError(
                f"{path}: it is cut off: {missing} bytes of its tensors are missing"
            )
        return cls(path, mapped, data, header)

    def bytes_of(self, tensor: TensorInfo) -> Bytes:
        start = self.header.data_start + tensor.offset
        return np.frombuffer(self.data, np.uint8, tensor.size_bytes, start)

    def release(self) -> None:
        """Gives back the memory of what was read; what is still in use is read again."""
        if isinstance(self.mapped, mmap.mmap):
            self.mapped.madvise(mmap.MADV_DONTNEED)


class GgufFile(Source):
    """A model in a GGUF file or in several, mapped into memory. Tensors are read on access.

    `path` is any of the files.

    Raises:
        CorruptFileError: a file is damaged. Also raised on access.
        UnsupportedModelError: it is of another version, or has unknown types. Likewise.
        UnknownModelError: there is no such file.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = [_Part.read(shard) for shard in shards_of(path)]
        self._keys = self.parts[0].header.keys
        self._places: dict[str, _Part] = {}
        for part in self.parts:
            for name in part.header.tensors:
                if name in self._places:
                    raise self.corrupt(f"tensor {name} is also in {self._places[name].path}")
                self._places[name] = part
        self.tensors = {name: part.header.tensors[name] for name, part in self._places.items()}
        if (count := self.value("split.count", int, 1)) != len(self.parts):
            raise self.corrupt(f"it is one of {count} files, but named as one of {len(self.parts)}")
        self.architecture_name = self.value("general.architecture", str)

    def value(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key, of the given type."""
        value = self._keys.get(key, default)
        if value is None:
            raise CorruptFileError(f"{self.path} does not say its {key}")
        if not isinstance(value, kind):
            raise self.corrupt(f"{key} is {type(value).__name__}, not {kind.__name__}")
        return value

    def values(self, key: str, kind: type[T]) -> list[T]:
        """The list of a key, with items of the given type."""
        found = self.value(key, list)
        if not all(isinstance(item, kind) for item in found):
            raise self.corrupt(f"{key} is no list of {kind.__name__}")
        return found

    def has(self, key: str) -> bool:
        return key in self._keys

    def said(self, key: str, kind: type[T], default: T | None = None) -> T:
        return self.value(self.name_of(key), kind, default)

    def name_of(self, key: str) -> str:
        return f"{self.architecture_name}.{key}"

    def matrix(self, name: str) -> Matrix:
        tensor, part = self.tensor(name), self._places[name]
        part.release()
        raw = part.bytes_of(tensor)
        element = {F32: np.float32, F16: np.float16}.get(tensor.kind)
        rows = raw if element is None else raw.view(element)
        matrix = Matrix(tensor.kind, rows.reshape(tensor.outputs, -1))
        if not matrix.finite:
            raise self.corrupt(f"tensor {name} has weights that are no finite numbers")
        return matrix


def _mapped(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.read(1) else b""
