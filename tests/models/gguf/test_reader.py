"""GGUF files are read for what they are, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from gguf import GGUFReader, GGUFWriter

from rapport.models.errors import CorruptFileError
from rapport.models.gguf.reader import GgufFile
from tests.models.gguf.bytes import FLOAT32


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tiny_gguf: Callable[..., Path], share: float) -> None:
    """A file cut off anywhere is refused, with its path."""
    path = tiny_gguf()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CorruptFileError, match=r"tiny\.gguf"):
        GgufFile(path)


@pytest.mark.parametrize("name", ["blk.1.ffn_down.weight", "blk.0.attn_norm.weight"])
def test_weights_are_finite_numbers(tiny_gguf: Callable[..., Path], name: str) -> None:
    """One that is none is named, whatever the weights are to become."""
    path = tiny_gguf(kind="F32")
    content = bytearray(path.read_bytes())
    reader = GGUFReader(path)
    (tensor,) = [each for each in reader.tensors if each.name == name]
    content[tensor.data_offset : tensor.data_offset + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=f"tensor {name} has weights that are no finite"):
        GgufFile(path).matrix(name)


def test_values_must_be_of_their_type(tiny_gguf: Callable[..., Path]) -> None:
    """A number of layers with a point is none."""
    path = tiny_gguf()
    content = bytearray(path.read_bytes())
    key = b"llama.block_count"
    place = content.index(key) + len(key)
    content[place : place + 4] = FLOAT32
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"llama\.block_count is float, not int"):
        GgufFile(path).count("block_count")


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file of another kind is refused."""
    path = tmp_path / "page.gguf"
    path.write_text("<html>not found</html>" * 100)
    with pytest.raises(CorruptFileError, match="not a readable GGUF file"):
        GgufFile(path)


def test_a_tensor_takes_memory_until_the_next_one_is_read(tmp_path: Path) -> None:
    """So an import holds one tensor of the file, not all, and what was read can be read again."""
    path, size = tmp_path / "two.gguf", 4 << 20
    writer = GGUFWriter(path, "llama")
    for name in ("a", "b"):
        writer.add_tensor(name, np.ones((size // 4096, 1024), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(path)
    first = file.matrix("a")
    file.matrix("b")
    (mapped,) = [each.rss for each in psutil.Process().memory_maps() if each.path == str(path)]
    assert size <= mapped < 1.5 * size
    assert (first.floats() == 1).all()
