"""The tensors of a Hugging Face folder, in one safetensors file or in several."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rapport.models.errors import CorruptFileError, UnknownModelError, UnsupportedModelError
from rapport.models.huggingface.json_file import JsonFile

WHOLE = "model.safetensors"
INDEX = f"{WHOLE}.index.json"
OTHER_FORMATS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file. `dtype` is as in the file, such as "BF16"."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    file: Any

    def read(self, name: str) -> Any:
        """The tensor as an array; bfloat16 as ml_dtypes has it."""
        return self.file.get_tensor(name)


def files_of(folder: Path) -> list[Path]:
    """The safetensors files of a folder: its only one, or those that the index names.

    Raises:
        UnknownModelError: one is not there.
        UnsupportedModelError: the weights are in another format.
        CorruptFileError: the index is damaged, or names a file elsewhere.
        OSError: the index cannot be read.
    """
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        for name in OTHER_FORMATS:
            if (folder / name).exists():
                raise UnsupportedModelError(f"{folder}: {name} is not supported; known: {WHOLE}")
        raise UnknownModelError(f"{folder} has no {WHOLE}, and no {INDEX}")
    paths = [folder / name for name in shards_in(JsonFile(folder / INDEX))]
    for path in paths:
        if not path.is_file():
            raise UnknownModelError(f"there is no file {path}")
    return paths


def shards_in(index: JsonFile) -> list[str]:
    """The names of the files that an index names.

    Raises:
        CorruptFileError: it names none, or one elsewhere.
    """
    names = list((index.value("weight_map", dict) or {}).values())
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or "\0" in name:
            raise index.corrupt(f"weight_map has {name!r}, which is no name of a file beside it")
        if not name.endswith(".safetensors"):
            raise index.corrupt(f"weight_map has {name!r}, which is no safetensors file")
    if not names:
        raise index.corrupt("its weight_map names no file")
    return sorted(set(names))


def tensors_in(paths: Collection[Path]) -> Iterator[tuple[str, StoredTensor]]:
    """The names and places of all tensors. The files stay mapped while their tensors are used.

    Raises:
        CorruptFileError: a file is damaged, or cut off.
        OSError: one cannot be read.
    """
    for path in paths:
        try:
            file: Any = safe_open(path, framework="numpy")
            for name in file.keys():  # noqa: SIM118 - it is no dict
                part = file.get_slice(name)
                yield name, StoredTensor(path, tuple(part.get_shape()), part.get_dtype(), file)
        except SafetensorError as error:
            raise CorruptFileError(f"{path} is no readable safetensors file: {error}") from error
