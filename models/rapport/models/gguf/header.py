"""Reads the header of a GGUF file: what it says of itself, and where its tensors are.

The gguf package reads a header with 300,000 tokens and merges in half a minute, and does not check
that they are there. This takes a fraction of a second.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from rapport.models.errors import CorruptFileError, ModelError, UnsupportedModelError
from rapport.models.weights.tensor import TensorInfo

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
# More than any vocabulary or list of merges has.
MAX_LIST_ITEMS = 1 << 21
MAX_TENSOR_DIMENSIONS = 4
MIN_STRING_BYTES = 8
NUMBERS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True, slots=True)
class Header:
    """The keys of a file, its tensors by name, and where their data starts."""

    keys: dict[str, Any]
    tensors: dict[str, TensorInfo]
    data_start: int


def read_header(data: memoryview) -> Header:
    """The header of the file with these bytes.

    Raises:
        CorruptFileError: it is damaged, or is no header.
        UnsupportedModelError: it is of another version, or has a tensor of an unknown type.
    """
    try:
        return _Cursor(data).header()
    except ModelError:
        raise
    except (struct.error, ValueError) as error:  # ValueError: text that is not UTF-8
        raise CorruptFileError(str(error)) from error


class _Cursor:
    """A place in the bytes of a file. Everything that is read is checked to be there."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._place = 0

    def header(self) -> Header:
        if self._bytes(len(MAGIC)) != MAGIC:
            raise CorruptFileError("it does not begin with GGUF")
        version = self._number("I")
        if version not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise UnsupportedModelError(f"GGUF version {version} is not supported; known: {known}")
        tensor_count, key_count = self._number("Q"), self._number("Q")
        keys: dict[str, Any] = {}
        for _ in range(key_count):
            key = self._new(self._text(), keys)
            keys[key] = self._value(self._type())
        tensors: dict[str, TensorInfo] = {}
        for _ in range(tensor_count):
            name = self._new(self._text(), tensors)
            tensors[name] = self._tensor(name)
        alignment = keys.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise CorruptFileError(f"general.alignment is {alignment}")
        return Header(keys, tensors, self._place + -self._place % alignment)

    def _new(self, name: str, known: dict[str, Any]) -> str:
        if name in known:
            raise CorruptFileError(f"it has {name!r} twice")
        return name

    def _tensor(self, name: str) -> TensorInfo:
        dimensions = self._number("I")
        if dimensions > MAX_TENSOR_DIMENSIONS:
            raise CorruptFileError(f"tensor {name} has {dimensions} dimensions")
        inputs_first = [self._number("Q") for _ in range(dimensions)]
        if 0 in inputs_first:
            raise CorruptFileError(f"tensor {name} is empty")
        kind, offset = self._kind(name), self._number("Q")
        tensor = TensorInfo(name, tuple(reversed(inputs_first)), kind, offset)
        if tensor.inputs % GGML_QUANT_SIZES[kind][0]:
            raise CorruptFileError(f"tensor {name} has rows of {tensor.inputs} in {kind.name}")
        return tensor

    def _kind(self, name: str) -> GGMLQuantizationType:
        number = self._number("I")
        try:
            return GGMLQuantizationType(number)
        except ValueError:
            raise UnsupportedModelError(
                f"type number {number} of tensor {name} is not supported; known: "
                "those that `rapport models import` names for other files"
            ) from None

    def _type(self) -> GGUFValueType:
        number = self._number("I")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise CorruptFileError(f"a value is of the unknown type {number}") from None

    def _value(self, type_: GGUFValueType) -> Any:
        if type_ == GGUFValueType.STRING:
            return self._text()
        if type_ == GGUFValueType.ARRAY:
            return self._list()
        return self._number(NUMBERS[type_])

    def _list(self) -> list[Any]:
        type_, count = self._type(), self._number("Q")
        if type_ == GGUFValueType.ARRAY:
            raise CorruptFileError("a list has lists in it")
        if count > MAX_LIST_ITEMS:
            raise CorruptFileError(f"a list has {count} items, over {MAX_LIST_ITEMS}")
        if type_ == GGUFValueType.STRING:
            self._check(count * MIN_STRING_BYTES)
            return self._texts(count)
        pattern = f"<{count}{NUMBERS[type_]}"
        return list(struct.unpack(pattern, self._bytes(struct.calcsize(pattern))))

    def _texts(self, count: int) -> list[str]:
        # The bulk of a header. A struct checks that a length is there, the end is checked here.
        length_at = struct.Struct("<Q").unpack_from
        data, place, texts = self._data, self._place, []
        for _ in range(count):
            start = place + MIN_STRING_BYTES
            place = start + length_at(data, place)[0]
            if place > len(data):
                raise CorruptFileError("it ends where more should follow")
            texts.append(str(data[start:place], "utf-8"))
        self._place = place
        return texts

    def _text(self) -> str:
        return str(self._bytes(self._number("Q")), "utf-8")

    def _number(self, code: str) -> Any:
        pattern = f"<{code}"
        return struct.unpack(pattern, self._bytes(struct.calcsize(pattern)))[0]

    def _bytes(self, count: int) -> memoryview:
        self._check(count)
        start = self._place
        self._place += count
        return self._data[start : self._place]

    def _check(self, count: int) -> None:
        if count > len(self._data) - self._place:
            raise CorruptFileError("it ends where more should follow")
