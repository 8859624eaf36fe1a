"""A model that is split into several files is one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from rapport.models.errors import CorruptFileError, UnknownModelError
from rapport.models.gguf.model import GgufModel
from rapport.models.gguf.shards import model_name, shards_of


@pytest.fixture
def split(tiny_gguf: Callable[..., Path]) -> list[Path]:
    """The tiny model in three files; the first has the keys and no tensors."""
    whole = tiny_gguf()
    reader = GGUFReader(whole)
    names = [f"tiny-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    shares = [[], reader.tensors[:4], reader.tensors[4:]]
    paths = [whole.with_name(name) for name in names]
    for number, (path, tensors) in enumerate(zip(paths, shares, strict=True)):
        writer = GGUFWriter(path, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 3)
        for field in reader.fields.values() if number == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                types = [*field.types, None]
                writer.add_key_value(field.name, field.contents(), types[0], types[1])
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_file_stands_for_all(
    split: list[Path], tiny_gguf: Callable[..., Path], given: int
) -> None:
    model, whole = GgufModel(split[given]), GgufModel(tiny_gguf())
    assert model.file.tensors.keys() == whole.file.tensors.keys()
    assert model.vocabulary == whole.vocabulary
    for name in model.file.tensors:
        found = model.file.matrix(name)
        np.testing.assert_array_equal(found.rows, whole.file.matrix(name).rows)
    assert model_name(split[given]) == "tiny"


def test_a_missing_file_is_named(split: list[Path]) -> None:
    split[1].unlink()
    with pytest.raises(UnknownModelError, match=f"there is no file {split[1]}"):
        GgufModel(split[0])


def test_files_must_be_of_one_model(split: list[Path], tiny_gguf: Callable[..., Path]) -> None:
    """Nothing is served of files that do not belong together, or whose names cannot be."""
    split[2].write_bytes(split[1].read_bytes())
    with pytest.raises(CorruptFileError, match="is also in"):
        GgufModel(split[0])
    part = tiny_gguf().rename(split[0].with_name("other-00001-of-00001.gguf"))
    assert shards_of(part) == [part]
    split[0].rename(part)
    with pytest.raises(CorruptFileError, match="one of 3 files, but named as one of 1"):
        GgufModel(part)
    with pytest.raises(CorruptFileError, match="not one of 3 files"):
        shards_of(part.with_name("x-00004-of-00003.gguf"))
