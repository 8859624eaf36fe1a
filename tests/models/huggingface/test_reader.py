"""Folders are read whole, or refused by what is wrong with them, before weights are read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rapport.models.errors import CorruptFileError, UnknownModelError, UnsupportedModelError
from rapport.models.huggingface.model import HuggingFaceModel
from rapport.models.importer import import_file

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def header(content: dict[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 9) + b"[" * 9,
        header({"a": tensor([1 << 40, 1 << 40], 0, 4)}) + b"1234",
        header({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}) + b"1234",
        header({"a": tensor([1], 4, 0)}) + b"1234",
        header({"a": tensor([2], 0, 8)}) + b"1234",
        header({"a": tensor([1], 0, 4)}) + b"12345678",
    ],
    ids=["empty", "junk", "cut", "nested", "huge", "overlapping", "backwards", "short", "long"],
)
def test_damaged_tensors_are_refused(tiny_folder: Callable[..., Path], content: bytes) -> None:
    folder = tiny_folder()
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CorruptFileError, match=f"{WEIGHTS} is no readable safetensors file"):
        HuggingFaceModel(folder)


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 7, ["x"], "x.bin"]
)
def test_an_index_names_files_beside_it(tiny_folder: Callable[..., Path], name: object) -> None:
    folder = tiny_folder(shards=2)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(CorruptFileError, match="weight_map has"):
        HuggingFaceModel(folder)


def test_a_missing_file_is_named(tiny_folder: Callable[..., Path]) -> None:
    folder = tiny_folder(shards=2)
    shard = folder / "model-00002-of-00002.safetensors"
    shard.unlink()
    with pytest.raises(UnknownModelError, match=f"no file {shard}"):
        HuggingFaceModel(folder)
    (folder / INDEX).unlink()
    with pytest.raises(UnknownModelError, match=f"has no {WEIGHTS}, and no {INDEX}"):
        HuggingFaceModel(folder)
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(UnsupportedModelError, match=r"pytorch_model.bin is not supported"):
        HuggingFaceModel(folder)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"lm_head.bias": np.zeros(4, np.float32)}, UnsupportedModelError, "tensor lm_head.bias"),
        (
            {"model.layers.1.mlp.up_proj.weight": np.zeros((64, 96), np.int8)},
            UnsupportedModelError,
            r"type I8 of tensor model.layers.1.mlp.up_proj.weight .*known: F32, F16, BF16",
        ),
        (
            {"model.layers.1.mlp.up_proj.weight": np.zeros((64, 96), np.float32)},
            CorruptFileError,
            r"model.layers.1.mlp.up_proj.weight is \(64, 96\), not \(96, 64\)",
        ),
        (
            {"model.layers.1.mlp.up_proj.weight": None},
            CorruptFileError,
            "it has no tensor model.layers.1.mlp.up_proj.weight",
        ),
        (
            {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8, np.float32)},
            None,
            "",
        ),
    ],
)
def test_tensors_are_those_of_the_architecture(
    tiny_folder: Callable[..., Path],
    change: dict[str, np.ndarray | None],
    error: type[Exception] | None,
    reason: str,
) -> None:
    """What differs is named as transformers calls it."""
    folder = tiny_folder()
    tensors = load_file(folder / WEIGHTS) | change
    save_file({name: each for name, each in tensors.items() if each is not None}, folder / WEIGHTS)
    if error is None:
        HuggingFaceModel(folder)
        return
    with pytest.raises(error, match=reason):
        HuggingFaceModel(folder)


def test_a_tied_head_is_the_embedding(tiny_folder: Callable[..., Path]) -> None:
    """It is left out where it is stored all the same, and missed where it is not tied."""
    folder = tiny_folder()
    tensors = load_file(folder / WEIGHTS)
    head = {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}
    save_file(tensors | head, folder / WEIGHTS)
    assert "output.weight" not in HuggingFaceModel(folder).source.tensors
    folder = tiny_folder(tie_word_embeddings=False)
    with pytest.raises(CorruptFileError, match=r"it has no tensor lm_head.weight"):
        HuggingFaceModel(folder)
    save_file(tensors | head, folder / WEIGHTS)
    assert "output.weight" in HuggingFaceModel(folder).source.tensors


def test_weights_are_numbers(tiny_folder: Callable[..., Path], cache: Path) -> None:
    """One that is not is found as the folder is made, of which nothing is left."""
    folder = tiny_folder()
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"][3] = np.nan
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CorruptFileError, match=r"model.norm.weight has weights that are no finite"):
        import_file(folder, "int4")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]
