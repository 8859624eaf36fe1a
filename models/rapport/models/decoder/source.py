"""Where a model comes from: what it says of itself, and its tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.weights.blocks import Floats
from rapport.models.weights.matrix import Matrix
from rapport.models.weights.tensor import TensorInfo

# Larger than any dimension or count of a real model.
MAX_DIMENSION = 1 << 24
T = TypeVar("T")


class Source(ABC):
    """The files of a model. Keys and tensors are called as in GGUF files, and checked on access.

    Attributes:
        path: What messages name.
        architecture_name: One of the table of families, if it is known.
        tensors: The tensors by name.
    """

    path: Path
    architecture_name: str
    tensors: Mapping[str, TensorInfo]

    def unsupported(self, what: str, known: str | Collection[str]) -> UnsupportedModelError:
        """An error that names what is not supported, and what is."""
        names = known if isinstance(known, str) else ", ".join(known)
        return UnsupportedModelError(f"{self.path}: {what} is not supported; known: {names}")

    def corrupt(self, what: str) -> CorruptFileError:
        return CorruptFileError(f"{self.path}: {what}")

    @abstractmethod
    def said(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key of the architecture, such as "block_count", of the given type.

        Raises:
            CorruptFileError: it is of another type, or missing without a default.
        """

    @abstractmethod
    def name_of(self, key: str) -> str:
        """What the files call a key of the architecture."""

    def name_of_tensor(self, name: str) -> str:
        """What the files call a tensor."""
        return name

    @abstractmethod
    def matrix(self, name: str) -> Matrix:
        """A tensor as a matrix [outputs, inputs]; a vector is a matrix of one row.

        Raises:
            CorruptFileError: there is none, or it has weights that are no finite numbers.
        """

    def vector(self, name: str) -> Floats:
        return self.matrix(name).floats().reshape(-1)

    def tensor(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise CorruptFileError(
                f"{self.path} has no tensor {self.name_of_tensor(name)}"
            ) from None

    def count(self, key: str, default: int | None = None, maximum: int = MAX_DIMENSION) -> int:
        """A number from 1 to `maximum`."""
        number = self.said(key, int, default)
        if not 0 < number <= maximum:
            raise self.corrupt(f"{self.name_of(key)} is {number}, not from 1 to {maximum}")
        return number

    def positive(self, key: str, default: float | None = None) -> float:
        number = self.said(key, float, default)
        if not 0 < number < math.inf:
            raise self.corrupt(f"{self.name_of(key)} is {number}, not a positive number")
        return number

    def not_negative(self, key: str, default: float) -> float:
        number = self.said(key, float, default)
        if not 0 <= number < math.inf:
            raise self.corrupt(f"{self.name_of(key)} is {number}, not 0 or a positive number")
        return number
