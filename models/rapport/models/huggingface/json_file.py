"""Reads the JSON files of a Hugging Face folder."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson

from rapport.models.errors import CorruptFileError, UnknownModelError, UnsupportedModelError

# The largest are lists of the tensors of models in many shards, of a few MiB.
MAX_JSON_BYTES = 1 << 25
T = TypeVar("T")


class JsonFile:
    """An object in a JSON file. A value that is null is not there.

    Raises:
        UnknownModelError: there is no such file.
        CorruptFileError: it holds no object, or is larger than any such file.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise UnknownModelError(f"there is no file {path}")
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise self.corrupt(f"it has {size} bytes, over {MAX_JSON_BYTES}")
        try:
            values = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise self.corrupt(f"it is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise self.corrupt("it holds no object")
        self.values: dict[str, Any] = values

    def corrupt(self, what: str) -> CorruptFileError:
        return CorruptFileError(f"{self.path}: {what}")

    def unsupported(self, what: str, known: Collection[str]) -> UnsupportedModelError:
        """An error that names what is not supported, and what is."""
        return UnsupportedModelError(
            f"{self.path}: {what} is not supported; known: {', '.join(known)}"
        )

    def value(self, name: str, kind: type[T], within: Mapping[str, Any] | None = None) -> T | None:
        """A value of the given type, of the file or of an object in it; None if it is not there.

        A whole number is a float as well. A boolean is no number.

        Raises:
            CorruptFileError: it is of another type.
        """
        value = (self.values if within is None else within).get(name)
        if kind is float and type(value) is int:
            value = float(value)
        if value is None or type(value) is kind:
            return value
        raise self.corrupt(f"{name} is {type(value).__name__}, not {kind.__name__}")

    def positive(self, name: str, default: float | None, within: Mapping[str, Any]) -> float:
        """A positive number of an object in the file."""
        number = self.value(name, float, within)
        number = default if number is None else number
        if number is None or not 0 < number < math.inf:
            raise self.corrupt(f"{name} is {number}, not a positive number")
        return number
