"""The header of a GGUF file is read in no time, and believed in nothing that is not there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFWriter

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.header import MAX_LIST_ITEMS, read_header
from tests.models.gguf.bytes import KEY, LIST, START, STRING, UINT32, number


def test_it_is_what_the_library_reads(tiny_gguf: Callable[..., Path]) -> None:
    """Every key, and each tensor's shape, type and place."""
    path = tiny_gguf(value_kind="Q8_0")
    header, reader = read_header(memoryview(path.read_bytes())), GGUFReader(path)
    expected = {name: field.contents() for name, field in reader.fields.items()}
    assert header.keys == {name: v for name, v in expected.items() if not name.startswith("GGUF.")}
    for tensor in reader.tensors:
        info = header.tensors[tensor.name]
        assert info.shape == tuple(reversed(tensor.shape.tolist()))
        assert info.kind == tensor.tensor_type
        assert header.data_start + info.offset == tensor.data_offset
        assert info.size_bytes == tensor.n_bytes


def test_values_of_every_type(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "values.gguf", "llama")
    values = {"u8": 200, "i8": -3, "u16": 60000, "i16": -300, "u32": 4000000000, "i32": -70000}
    values |= {"u64": 1 << 60, "i64": -(1 << 60)}
    for name, value in values.items():
        add = f"add_{name.replace('u', 'uint').replace('i', 'int', 1)}"
        getattr(writer, add.replace("uintnt", "uint"))(name, value)
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("bool", True)
    writer.add_string("text", "naïve 東京")
    writer.add_array("texts", ["a", "", "é"])
    writer.add_array("numbers", [1, -2, 3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    keys = read_header(memoryview((tmp_path / "values.gguf").read_bytes())).keys
    texts = {"text": "naïve 東京", "texts": ["a", "", "é"], "numbers": [1, -2, 3]}
    expected = {"f32": 0.5, "f64": 0.1, "bool": True, **values, **texts}
    assert {name: keys[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (START + number(1) + KEY + LIST + UINT32 + number(1 << 60) + number(0, 4), "has 11529"),
        (START + number(1) + KEY + LIST + UINT32 + number(1 << 20), "ends where more"),
        (START + number(1) + KEY + LIST + STRING + number(MAX_LIST_ITEMS), "ends where more"),
        (START + number(1) + KEY + LIST + (LIST + number(1)) * 2000, "has lists in it"),
        (START + number(1 << 60) + KEY, "ends where more"),
        (START + number(1) + number(1 << 60) + b"k", "ends where more"),
        (START + number(1) + KEY + number(99, 4), "unknown type 99"),
        (START + number(2) + (KEY + UINT32 + number(1, 4)) * 2, "'k' twice"),
        (START + number(1) + KEY + STRING + number(1) + b"\xff", "utf-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lying_headers_are_refused(content: bytes, reason: str) -> None:
    """One that claims more than is there is refused at once, whatever it claims."""
    with pytest.raises(CorruptFileError, match=reason):
        read_header(memoryview(content))


def test_other_versions_are_named() -> None:
    """Version 1, and those that swap the bytes of their numbers."""
    for version in (1, 4, 3 << 24):
        content = b"GGUF" + number(version, 4) + number(0) * 2
        with pytest.raises(UnsupportedModelError, match=f"GGUF version {version} is not supported"):
            read_header(memoryview(content))


def test_unknown_tensor_types_are_named() -> None:
    tensor = number(1) + b"t" + number(1, 4) + number(32) + number(4711, 4) + number(0)
    content = b"GGUF" + number(3, 4) + number(1) + number(0) + tensor
    with pytest.raises(
        UnsupportedModelError, match="type number 4711 of tensor t is not supported"
    ):
        read_header(memoryview(content))


def test_tensors_are_not_empty() -> None:
    tensor = number(1) + b"t" + number(1, 4) + number(0) + number(0, 4) + number(0)
    content = b"GGUF" + number(3, 4) + number(1) + number(0) + tensor
    with pytest.raises(CorruptFileError, match="tensor t is empty"):
        read_header(memoryview(content))


def test_rows_are_whole_blocks() -> None:
    """33 weights are no blocks of 32."""
    tensor = number(1) + b"t" + number(1, 4) + number(33) + number(8, 4) + number(0)
    content = b"GGUF" + number(3, 4) + number(1) + number(0) + tensor
    with pytest.raises(CorruptFileError, match="tensor t has rows of 33 in Q8_0"):
        read_header(memoryview(content))


def test_a_large_vocabulary_takes_no_time() -> None:
    """The tokens and merges of a large model, in less CPU time than one may wait for."""
    token = number(6) + b"tokens"
    tokens = LIST + STRING + number(300_000) + token * 300_000
    content = START + number(1) + KEY + tokens
    before = time.process_time()
    assert len(read_header(memoryview(content)).keys["k"]) == 300_000
    assert time.process_time() - before < 2
